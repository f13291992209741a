"""Run a verb: set the environment, and turn exceptions into messages and exit codes."""

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from cxr_platform.errors import CxrError
from cxr_platform.storage.retry import store_errors

if TYPE_CHECKING:
    from rich.console import Console

DEFECT = 70  # EX_SOFTWARE of sysexits.h
INTERRUPTED = 130  # 128 + SIGINT, as shells report it
COLUMNS = 120
"""Width of tables that are not printed to a terminal."""

ENVIRONMENT = {
    # Ray creates a token and turns authentication on by itself, but `ray start` and `ray job submit` do not.
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # TensorFlow itself turns oneDNN on for known processors only; training steps without it are slower.
    "TF_ENABLE_ONEDNN_OPTS": "1",
    "GX_ANALYTICS_ENABLED": "false",
}
"""Variables that libraries read when they are imported. The user's own values take precedence."""


def run_command(function: Callable[[], int]) -> int:
    """Call `function` and return its exit code; print a `CxrError` to stderr and return the exit code of its class."""
    _set_environment()
    try:
        return function()
    except CxrError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except store_errors() as error:
        where = getattr(error, "filename", None) or "a file"
        print(f"Expected to be able to read and write {where}. Received: {str(error).rstrip('.')}.", file=sys.stderr)
        return CxrError.exit_code
    except KeyboardInterrupt:
        print("Interrupted. Finished work is kept; run the same command to continue.", file=sys.stderr)
        return INTERRUPTED
    except Exception:  # a defect of the platform: the user needs the traceback to report it
        traceback.print_exc()
        return DEFECT


def console(columns: int = COLUMNS) -> "Console":
    """Return a console on stdout that prints text unchanged, `columns` wide if stdout is not a terminal."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else columns, highlight=False, markup=False)


def _set_environment() -> None:
    """Leave Ray's variables alone if Ray is imported: they would reach its servers, but not this process."""
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # its advice on tracing is for developers
    # Ray starts its processes by a fork that runs another program at once; JAX warns of any fork.
    warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
    ray_imported = "ray" in sys.modules
    for name, value in ENVIRONMENT.items():
        if not (ray_imported and name.startswith("RAY_")):
            os.environ.setdefault(name, value)

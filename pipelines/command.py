"""How every verb ends: an exit code, and one paragraph on stderr where something can be put right."""

import logging
import os
import sys
import traceback
from collections.abc import Callable

from cxr_platform.errors import CxrError
from cxr_platform.storage.files import store_errors

DEFECT = 70  # EX_SOFTWARE of sysexits.h
INTERRUPTED = 130  # 128 + SIGINT, as shells report it

ENVIRONMENT = {
    # Ray writes a token and turns authentication on by itself, but `ray start` and `ray job submit` do not.
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "GX_ANALYTICS_ENABLED": "false",
}
"""Set unless the user has set them, before the libraries that read them at import."""


def run_command(function: Callable[[], int]) -> int:
    """Run `function` and return its exit code; a `CxrError` becomes its message on stderr and its own code."""
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
        print("Interrupted. What is finished is kept; the same command continues.", file=sys.stderr)
        return INTERRUPTED
    except Exception:  # a defect of ours, not something to put right: the whole story, and a code of its own
        traceback.print_exc()
        return DEFECT


def _set_environment() -> None:
    """Ray, once imported, has made up its mind: a variable set later would reach its servers but not this process."""
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # its advice on tracing is for us, not for users
    late = "ray" in sys.modules
    for name, value in ENVIRONMENT.items():
        if not (late and name.startswith("RAY_")):
            os.environ.setdefault(name, value)

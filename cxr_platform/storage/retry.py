"""Work in an object store that survives a store which answers with errors for a while.

The stores' libraries try again for a few seconds. A trial has trained for minutes or hours by the time it is stored, so
it waits longer. Errors of a local file system, such as a full disk, do not pass by themselves.
"""

import errno
import logging
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from cxr_platform.errors import CxrError, StorageError
from cxr_platform.storage.paths import is_remote

RETRY_SECONDS = 120.0
"""Time after the first error for which work is tried again."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 10.0

STORE_ERRORS = (
    ("botocore.exceptions", "BotoCoreError"),
    ("aiohttp.client_exceptions", "ClientError"),
    ("gcsfs.retry", "HttpError"),
    ("azure.core.exceptions", "AzureError"),
)
"""Module and base exception of the stores' libraries, for those errors that are no `OSError`, such as no connection."""

FINAL = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)
FINAL_OF_STORES = (("botocore.exceptions", "NoCredentialsError"),)
"""Answers that say something of the file or the request and not of the store."""

T = TypeVar("T")
log = logging.getLogger(__name__)


def store_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions of file systems and of those store libraries that are imported."""
    return (OSError, *_imported(STORE_ERRORS))


def with_retries(place: Path, work: Callable[[], T]) -> T:
    """Return `work()`, which may be done twice; try it again while the store of `place` answers with errors.

    Raises the last error after `RETRY_SECONDS`, and at once where `place` is in a local file system.
    """
    until, pause = None, FIRST_PAUSE_SECONDS
    while True:
        try:
            return work()
        except Exception as error:
            until = until or time.monotonic() + RETRY_SECONDS
            if not (is_remote(place) and _may_pass(error)) or time.monotonic() + pause > until:
                raise
            log.warning("%s is tried again in %.1f s: %s", place, pause, error)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def is_full_disk(error: Exception) -> bool:
    """Return True if a disk of this machine has no room, or its quota is used up: no store answers so."""
    return getattr(_reason(error), "errno", None) in (errno.ENOSPC, errno.EDQUOT)


def _may_pass(error: Exception) -> bool:
    reason = _reason(error)
    kinds = (Exception,) if isinstance(error, StorageError) else store_errors()
    final = isinstance(reason, (*FINAL, *_imported(FINAL_OF_STORES))) or is_full_disk(error)
    return isinstance(reason, kinds) and not final


def _reason(error: BaseException | None) -> BaseException | None:
    """Return the error of a file system or store that a `CxrError`, or several, were raised for."""
    return _reason(error.__cause__) if isinstance(error, CxrError) else error


def _imported(names: Iterable[tuple[str, str]]) -> list[type[Exception]]:
    return [getattr(sys.modules[module], name) for module, name in names if module in sys.modules]

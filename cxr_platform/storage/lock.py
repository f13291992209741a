"""One process at a time: the operating system's lock on a file, or a lease in an object store.

A lease is a file that its holder writes again every few seconds with a new count. Whoever wants it watches the file: a
count that moves is a holder that lives, one that stands still was left by a process that died. No clocks are compared.

A holder that was suspended or cut off for so long that others may take it for dead has lost its lease, and is told so.
"""

import errno
import fcntl
import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cxr_platform.errors import StorageError
from cxr_platform.storage.files import make_folder, storage_errors, store_errors
from cxr_platform.storage.place import is_remote

FILE = ".lock"
RENEWAL_SECONDS = 5.0
ABANDONED_SECONDS = 30.0
"""A lease whose count has not moved for so long is nobody's."""

CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""The one that goes on while the machine is suspended."""

Check = Callable[[], None]
"""Raises `StorageError` when what is held was lost meanwhile."""


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process; `StorageError` when another one has it, or took it before the end.

    Ends with the process in any case: at once in a file system (in a network's, with its machine, when the server gives
    that up), after `ABANDONED_SECONDS` in an object store.
    """
    with holding(folder):
        yield


@contextmanager
def holding(folder: Path) -> Iterator[Check]:
    """As `exclusive`, for who has something to write within: to be checked just before. A file's lock is never lost."""
    with _lease(folder / FILE) if is_remote(folder) else _file_lock(folder / FILE) as check:
        yield check
        check()


@contextmanager
def _file_lock(file: Path) -> Iterator[Check]:
    with storage_errors(file):
        make_folder(file.parent)
        stream = file.open("w")
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _held(file.parent, "a process that holds it") from None
        except OSError as error:
            raise StorageError(
                f"Expected a file system with locks for {file.parent}.",
                received=error.strerror,
                advice="Mount it with them (Lustre: -o flock; NFS: lockd, or version 4), or choose another place.",
            ) from error
        yield lambda: None


@contextmanager
def _lease(file: Path) -> Iterator[Check]:
    with storage_errors(file):
        lease = _Lease(file)
        lease.take(left_behind=_wait_until_abandoned(file))
    try:
        yield lease.check
    finally:
        lease.give_back()


def _held(folder: Path, by: str) -> StorageError:
    advice = "Wait for it to end, or use another name."
    return StorageError(f"Expected nobody else to be working on {folder}.", received=by, advice=advice)


def _wait_until_abandoned(file: Path) -> bool:
    """Whether somebody left it behind; else there is none."""
    first, until = _content(file), time.monotonic() + ABANDONED_SECONDS
    while (now := _content(file)) is not None:
        if now != first:
            raise _held(file.parent, f"a process on {now.get('node')} that holds it")
        if time.monotonic() >= until:
            return True
        time.sleep(min(RENEWAL_SECONDS, ABANDONED_SECONDS) / 5)
    return False


def _content(file: Path) -> dict[str, object] | None:
    """In one request: with two, the holder may write in between, and s3fs takes that for an error."""
    store: Any = file
    try:
        content: dict[str, object] = json.loads(store.fs.cat_file(store.path))
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return content


def _now() -> float:
    return time.clock_gettime(CLOCK)


class _Lease:
    def __init__(self, file: Path) -> None:
        self._file, self._holder, self._count = file, uuid.uuid4().hex, 0
        self._written, self._lost = _now(), False
        self._over = threading.Event()
        self._renewing = threading.Thread(target=self._renew, daemon=True)

    def take(self, left_behind: bool) -> None:
        """Of two who write at the same moment the later one has it: the store keeps one of two contents.

        Another's write may be under way for as long as this one's was, so that long it is waited. A store that can
        itself refuse to write what is there already does.
        """
        started = _now()
        if left_behind:
            self._write()
        else:
            self._create()
        time.sleep(max(RENEWAL_SECONDS / 5, _now() - started))
        found = _content(self._file)
        if found is None or found.get("holder") != self._holder:
            raise _held(self._file.parent, "a process that took it at the same moment")
        self._written = started
        self._renewing.start()

    def _create(self) -> None:
        try:
            self._write("create")
        except FileExistsError:  # another's, or this one, whose first answer did not arrive: reading it will tell
            return
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
            self._write()  # a store that cannot refuse

    def check(self) -> None:
        if self._is_lost():
            raise StorageError(
                f"Expected to hold {self._file.parent} until the end of the work.",
                received=f"a pause of {ABANDONED_SECONDS:g} s or more, after which it is another's",
                advice="See that no other process works on it, and run the same command again.",
            )

    def give_back(self) -> None:
        """Where the store does not answer, the lease lapses by itself."""
        self._over.set()
        self._renewing.join()
        with suppress(*store_errors()):
            if (_content(self._file) or {}).get("holder") == self._holder:
                self._file.unlink(missing_ok=True)

    def _renew(self) -> None:
        while not self._over.wait(RENEWAL_SECONDS):
            with suppress(*store_errors()):  # tried again in a moment; work that cannot be stored fails by itself
                self._renew_once()

    def _renew_once(self) -> None:
        holder = (_content(self._file) or {}).get("holder", self._holder)
        self._lost = self._lost or holder != self._holder
        if self._is_lost():
            return
        started = _now()
        self._write()
        if not self._is_lost():
            self._written = started

    def _is_lost(self) -> bool:
        """Once it is, it stays so: what is written afterwards does not undo what others did in between."""
        self._lost = self._lost or _now() - self._written >= ABANDONED_SECONDS
        return self._lost

    def _write(self, mode: str = "overwrite") -> None:
        self._count += 1
        told = {"holder": self._holder, "node": platform.node(), "process": os.getpid(), "count": self._count}
        store: Any = self._file
        store.fs.pipe_file(store.path, json.dumps(told).encode(), mode=mode)

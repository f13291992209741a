"""One process at a time: the operating system's lock on a file, or a lease in an object store.

A lease is a file that its holder writes again every few seconds with a new count. Whoever wants it watches the file: a
count that moves is a holder that lives, one that stands still was left by a process that died. No clocks are compared.
"""

import fcntl
import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cxr_platform.errors import StorageError
from cxr_platform.storage.files import make_folder, storage_errors
from cxr_platform.storage.place import is_remote

FILE = ".lock"
RENEWAL_SECONDS = 5.0
ABANDONED_SECONDS = 30.0
"""A lease whose count has not moved for so long is nobody's."""


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process; `StorageError` when another one has it.

    Ends with the process in any case: at once in a file system, after `ABANDONED_SECONDS` in an object store.
    """
    with _lease(folder / FILE) if is_remote(folder) else _file_lock(folder / FILE):
        yield


@contextmanager
def _file_lock(file: Path) -> Iterator[None]:
    with storage_errors(file):
        make_folder(file.parent)
        stream = file.open("w")
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _held(file.parent, "a process that holds it") from None
        yield


@contextmanager
def _lease(file: Path) -> Iterator[None]:
    with storage_errors(file):
        _wait_until_abandoned(file)
        lease = _Lease(file)
        lease.take()
    try:
        yield
    finally:
        lease.give_back()


def _held(folder: Path, by: str) -> StorageError:
    advice = "Wait for it to end, or use another name."
    return StorageError(f"Expected nobody else to be working on {folder}.", received=by, advice=advice)


def _wait_until_abandoned(file: Path) -> None:
    first, until = _content(file), time.monotonic() + ABANDONED_SECONDS
    while (now := _content(file)) is not None:
        if now != first:
            raise _held(file.parent, f"a process on {now.get('node')} that holds it")
        if time.monotonic() >= until:
            return
        time.sleep(min(RENEWAL_SECONDS, ABANDONED_SECONDS) / 5)


def _content(file: Path) -> dict[str, object] | None:
    try:
        content: dict[str, object] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return content


class _Lease:
    def __init__(self, file: Path) -> None:
        self._file, self._holder, self._count = file, uuid.uuid4().hex, 0
        self._over = threading.Event()
        self._renewing = threading.Thread(target=self._renew, daemon=True)

    def take(self) -> None:
        """Of two who write at the same moment the later one has it: the store keeps one of two contents."""
        self._write()
        time.sleep(RENEWAL_SECONDS / 5)
        found = _content(self._file)
        if found is None or found.get("holder") != self._holder:
            raise _held(self._file.parent, "a process that took it at the same moment")
        self._renewing.start()

    def give_back(self) -> None:
        self._over.set()
        self._renewing.join()
        if (_content(self._file) or {}).get("holder") == self._holder:
            self._file.unlink(missing_ok=True)

    def _renew(self) -> None:
        while not self._over.wait(RENEWAL_SECONDS):
            try:
                self._write()
            except OSError:  # tried again in a moment; work that cannot be stored fails by itself
                continue

    def _write(self) -> None:
        self._count += 1
        told = {"holder": self._holder, "node": platform.node(), "process": os.getpid(), "count": self._count}
        self._file.write_text(json.dumps(told), encoding="utf-8")

"""Locks between processes: `filelock` in a file system, a lease in an object store.

A lease is a file that its holder rewrites every `RENEWAL_SECONDS` with a new count. A process that wants it watches
the file: while the count changes the holder is alive; after `ABANDONED_SECONDS` without a change it is free. No clocks
of two machines are compared. A holder that was suspended or disconnected for as long takes its lease again if no other
process has it by then; if one has, the lease is lost, and `LockCheck` raises `StorageError`.
"""

import errno
import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cxr_platform.errors import StorageError
from cxr_platform.storage.files import make_folder, write_errors
from cxr_platform.storage.paths import is_remote
from cxr_platform.storage.retry import store_errors, with_retries

LOCK_FILE = ".lock"
RENEWAL_SECONDS = 5.0
ABANDONED_SECONDS = 30.0
WAIT = "Wait for it to end."
CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""A clock that also runs while the machine is suspended, where there is one."""

LockCheck = Callable[[], None]
"""Raises `StorageError` if the lock was lost meanwhile."""


@contextmanager
def folder_lock(folder: Path, name: str = "", advice: str = WAIT) -> Iterator[LockCheck]:
    """Hold `folder` for this process, and yield a `LockCheck` to call before results are written.

    Raises `StorageError` if another process holds it, or took it before the end of the block. The error names what is
    locked by `name`, by default the folder, and ends with `advice`. The lock ends with the
    process: at once in a file system (in a network file system, when the server gives up a lost machine), after
    `ABANDONED_SECONDS` in an object store.
    """
    if is_remote(folder):
        with _lease(folder / LOCK_FILE, partial(_held, name or folder, advice)) as check:
            yield check
            check()
    else:
        with write_errors(folder):
            make_folder(folder)
        with file_lock(folder / LOCK_FILE, name, advice):
            yield lambda: None  # the lock of a file is never lost


@contextmanager
def file_lock(file: Path, name: str = "", advice: str = WAIT, timeout: float = 0) -> Iterator[None]:
    """Hold the lock of a local `file`, whose folder exists; wait at most `timeout` seconds for another process.

    Raises `StorageError` if another process holds it, as `folder_lock` does, or the file system has no locks.
    """
    with write_errors(file):
        file.touch()
    lock = FileLock(file, timeout=timeout, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        within = f" within {timeout:g} s" if timeout else ""
        raise _held(f"{name or file.parent}{within}", advice, f"another process that holds {file.name}") from None
    except OSError as error:
        raise StorageError(
            f"Expected a file system with locks for {file.parent}.",
            received=error.strerror,
            advice="Mount it with locks (Lustre: -o flock; NFS: lockd, or version 4), or choose another place.",
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _lease(file: Path, held: Callable[[str], StorageError]) -> Iterator[LockCheck]:
    """`held` returns the error if the holder that it is given has the lease."""
    with write_errors(file):
        lease = _Lease(file, held)
        lease.take(is_abandoned=_wait_until_abandoned(file, held))
    try:
        yield lease.check
    finally:
        lease.give_back()


def _held(name: object, advice: str, by: str) -> StorageError:
    return StorageError(f"Expected no other process to work on {name}.", received=by, advice=advice)


def _wait_until_abandoned(file: Path, held: Callable[[str], StorageError]) -> bool:
    """Return True after its holder has stopped renewing the lease, False if there is none; else raise."""
    first, until = _content(file), time.monotonic() + ABANDONED_SECONDS
    while (now := _content(file)) is not None:
        if now != first:
            raise held(f"a process on {now.get('node')} that holds it")
        if time.monotonic() >= until:
            return True
        time.sleep(min(RENEWAL_SECONDS, ABANDONED_SECONDS) / 5)
    return False


def _content(file: Path) -> dict[str, object] | None:
    """Read the lease in one request: if the holder writes between two, s3fs raises an error."""
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
    """One lease of this process, renewed by a thread from `take` to `give_back`."""

    def __init__(self, file: Path, held: Callable[[str], StorageError]) -> None:
        self._held = held
        self._file, self._holder, self._count = file, uuid.uuid4().hex, 0
        self._written, self._lost = _now(), False
        self._writing = threading.Lock()
        self._over = threading.Event()
        self._renewing = threading.Thread(target=self._renew, daemon=True)

    def take(self, is_abandoned: bool) -> None:
        """Write the lease, and raise `StorageError` if another process wrote it at the same moment.

        A store that can refuse to overwrite a file decides; in others the later of two writes wins. Another process's
        write may take as long as this one did, so wait that long before reading the result.
        """
        started = _now()
        if is_abandoned:
            self._write()
        else:
            self._create()
        time.sleep(max(RENEWAL_SECONDS / 5, _now() - started))
        content = _content(self._file)
        if content is None or content.get("holder") != self._holder:
            raise self._held("a process that took it at the same moment")
        self._written = started
        self._renewing.start()

    def _create(self) -> None:
        try:
            self._write("create")
        except FileExistsError:  # another process's, or this one's, if the first answer was lost: `take` reads it
            return
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
            self._write()  # the store cannot refuse

    def check(self) -> None:
        """Raise `StorageError` if the lease was lost, or cannot be taken again after a pause."""
        if self._is_expired():
            with suppress(StorageError, *store_errors()):
                with_retries(self._file, self._renew_once)
        if self._lost or self._is_expired():
            raise StorageError(
                f"Expected to hold {self._file.parent} until the end of the work.",
                received=f"a pause of {ABANDONED_SECONDS:g} s or more, after which another process may take it",
                advice="Make sure that no other process works on it, and run the same command again.",
            )

    def give_back(self) -> None:
        """Remove the lease; if the store does not answer, it expires."""
        self._over.set()
        self._renewing.join()
        with suppress(*store_errors()):
            if (_content(self._file) or {}).get("holder") == self._holder:
                self._file.unlink(missing_ok=True)

    def _renew(self) -> None:
        while not self._over.wait(RENEWAL_SECONDS):
            with suppress(*store_errors()):  # tried again soon; if the store stays away, the work itself fails
                self._renew_once()

    def _renew_once(self) -> None:
        with self._writing:  # `check` may be called while the thread renews
            content = _content(self._file)
            expired = self._is_expired()
            # A file that is gone after a pause was taken and given back meanwhile.
            holder = (content or {}).get("holder", None if expired else self._holder)
            self._lost = self._lost or holder != self._holder
            if not self._lost:
                self._take_again() if expired else self._write_in_time()

    def _write_in_time(self) -> None:
        started = _now()
        self._write()
        if not self._is_expired():
            self._written = started

    def _take_again(self) -> None:
        """Write the lease after a pause, and wait as `take` does for a process that found it abandoned."""
        started = _now()
        self._write()
        time.sleep(max(RENEWAL_SECONDS / 5, _now() - started))
        self._lost = (_content(self._file) or {}).get("holder") != self._holder
        self._written = started

    def _is_expired(self) -> bool:
        return _now() - self._written >= ABANDONED_SECONDS

    def _write(self, mode: str = "overwrite") -> None:
        self._count += 1
        content = {"holder": self._holder, "node": platform.node(), "process": os.getpid(), "count": self._count}
        store: Any = self._file
        store.fs.pipe_file(store.path, json.dumps(content).encode(), mode=mode)

"""How the registry reads and writes: the one place that knows that it is a folder of local files.

A file is replaced whole or not at all, a link is never followed, and one process at a time changes anything.
"""

import errno
import fcntl
import hashlib
import os
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from cxr_platform.errors import RegistryError, StorageError

CHUNK = 2**20
"""Bytes read at a time for a hash."""

WAIT_SECONDS = 0.05
"""Between two looks at a lock that another process holds."""

_ADVICE = "Take it from a backup, or make the version again."


@contextmanager
def opened(path: Path, error: type[RegistryError]) -> Iterator[BinaryIO]:
    """`path` for reading, if it is a file itself and not a link or something else; `error` says what it is."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # a pipe must not make us wait
    except OSError as reason:
        received = "a symbolic link" if reason.errno == errno.ELOOP else reason.strerror
        raise error(f"Expected a readable file at {path}.", received=received, advice=_ADVICE) from reason
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise error(f"Expected a file at {path}.", received="something else", advice=_ADVICE)
    with os.fdopen(descriptor, "rb") as stream:
        yield stream


def read_bytes(path: Path, error: type[RegistryError]) -> bytes:
    """The content of the file at `path`; `error` where it is absent, a link or not readable."""
    with opened(path, error) as stream:
        return stream.read()


def size_and_sha256(path: Path, error: type[RegistryError]) -> tuple[int, str]:
    """Bytes and SHA-256 (hexadecimal) of the file at `path`, read a piece at a time."""
    digest, size = hashlib.sha256(), 0
    with opened(path, error) as stream:
        while piece := stream.read(CHUNK):
            digest.update(piece)
            size += len(piece)
    return size, digest.hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the file at `path`: after a crash it is the old one or the new one. `StorageError` if it cannot be."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with storage_errors(path):
        try:
            with partial.open("xb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        flush(path.parent)


def remove_partial(path: Path) -> None:
    """What a crash in `write_atomically` has left beside `path`; only under the lock."""
    for partial in path.parent.glob(f".{path.name}.*"):
        partial.unlink(missing_ok=True)


def publish(folder: Path, destination: Path) -> None:
    """Give a filled folder its name, so that it is there whole even after a power cut."""
    with storage_errors(destination):
        for place in (*folder.iterdir(), folder):
            flush(place)
        folder.rename(destination)
        flush(destination.parent)


def flush(path: Path) -> None:
    """Make a file, or the entries of a folder, outlast a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path, patience_seconds: float) -> Iterator[None]:
    """Hold the lock file at `path`; ends with the process in any case. `RegistryError` if another one keeps it."""
    with storage_errors(path):
        stream = path.open("a")
    with stream:
        until = time.monotonic() + patience_seconds
        while not _taken(stream.fileno()):
            if time.monotonic() >= until:
                raise RegistryError(
                    f"Expected the lock {path} within {patience_seconds:g} s.",
                    received="another process that holds it",
                    advice="Wait until that change of the registry is done, and run the same command again.",
                )
            time.sleep(WAIT_SECONDS)
        yield


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def storage_errors(place: Path) -> Iterator[None]:
    """Turn an error of the file system into a `StorageError` that names `place`."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"Expected to be able to write {place}.",
            received=error.strerror or error,
            advice="Make room or correct the permissions, and run the same command again.",
        ) from error

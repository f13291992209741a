"""How the registry reads and writes: the one place that knows that it is a folder of local files.

A file is replaced whole or not at all, a link is never followed, and one process at a time changes anything.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from cxr_platform.errors import RegistryError

CHUNK = 2**20
"""Bytes read at a time for a hash."""

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

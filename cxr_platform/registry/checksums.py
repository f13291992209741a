"""Checksums of the files of a bundle: the folder must hold exactly the files that were hashed, byte by byte.

A symbolic link, a folder or a pipe in place of a file is an error, as is a file that has no checksum.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, TypeAlias

from pydantic import Field

from cxr_platform.errors import BundleError, RegistryError
from cxr_platform.validation import Record

CHUNK = 2**20
"""Bytes read at a time for a hash."""
RESTORE = "Take it from a backup, or make the version again."
CHANGED = "The bundle was changed after it was made: go back to another version, or take it from a backup."

Sha256: TypeAlias = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Checksum(Record):
    """SHA-256 (hexadecimal) and size of a file."""

    sha256: Sha256
    bytes: int = Field(ge=0)


def read_bytes(path: Path, error: type[RegistryError]) -> bytes:
    """Return the content of the file at `path`; raise `error` if it is absent, a link or not readable."""
    with _open_file(path, error) as stream:
        return stream.read()


def file_checksum(path: Path, error: type[RegistryError]) -> Checksum:
    """Return the checksum of the file at `path`, read a chunk at a time; raise `error` as `read_bytes`."""
    digest, size = hashlib.sha256(), 0
    with _open_file(path, error) as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return Checksum(sha256=digest.hexdigest(), bytes=size)


def folder_checksums(folder: Path, members: Collection[str], besides: str) -> dict[str, Checksum]:
    """Return the checksums of `members`, which must be all that `folder` holds apart from the file `besides`."""
    _check_names(folder, {*members}, besides)
    return {name: file_checksum(folder / name, BundleError) for name in members}


def check_folder(folder: Path, files: Mapping[str, Checksum], besides: str) -> None:
    """Compare every file in `folder` apart from `besides` with its checksum.

    Raise `BundleError` for the first that differs, is missing, or has no checksum.
    """
    _check_names(folder, {*files}, besides)
    for name, expected in files.items():
        received = file_checksum(folder / name, BundleError)
        if received.bytes != expected.bytes:
            raise _changed(folder / name, f"{expected.bytes:,} bytes", f"{received.bytes:,} bytes")
        if received.sha256 != expected.sha256:
            raise _changed(folder / name, f"SHA-256 {expected.sha256}", received.sha256)


def check_bytes(path: Path, content: bytes, expected_sha256: str) -> None:
    """Raise `BundleError` with both hashes unless `content`, read from `path`, has the SHA-256 `expected_sha256`."""
    received = hashlib.sha256(content).hexdigest()
    if received != expected_sha256:
        raise _changed(path, f"SHA-256 {expected_sha256}", received)


@contextmanager
def _open_file(path: Path, error: type[RegistryError]) -> Iterator[BinaryIO]:
    """Open a regular file for reading without following a link; raise `error` with what is there instead."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # do not block on a pipe
    except OSError as reason:
        received = "a symbolic link" if reason.errno == errno.ELOOP else reason.strerror
        raise error(f"Expected a readable file at {path}.", received=received, advice=RESTORE) from reason
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise error(f"Expected a file at {path}.", received="something else", advice=RESTORE)
    with os.fdopen(descriptor, "rb") as stream:
        yield stream


def _changed(path: Path, expected: str, received: str) -> BundleError:
    return BundleError(f"Expected {path} as it was made, {expected}.", received=received, advice=CHANGED)


def _check_names(folder: Path, members: set[str], besides: str) -> None:
    try:
        names = {entry.name for entry in folder.iterdir()} - {besides}
    except OSError as error:
        raise BundleError(f"Expected a bundle in {folder}.", received=error.strerror, advice=CHANGED) from error
    if missing := sorted(members - names):
        raise BundleError(f"Expected {', '.join(missing)} in {folder}.", received="no such file", advice=CHANGED)
    if further := sorted(names - members):
        raise BundleError(
            f"Expected nothing in {folder} but {', '.join(sorted({*members, besides}))}.",
            received=f"also {', '.join(further)}",
            advice="Move it elsewhere: only files with a checksum may be in a bundle.",
        )

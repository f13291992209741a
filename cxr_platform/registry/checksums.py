"""What lies in a bundle's folder: each file as its stamp says, and nothing else."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from cxr_platform.errors import BundleError
from cxr_platform.registry.files import size_and_sha256

CHANGED = "The bundle was changed after it was made: go back to another version, or take it from a backup."


@dataclass(frozen=True)
class Stamp:
    """SHA-256 (hexadecimal) and size of a file."""

    sha256: str
    bytes: int


def stamps(folder: Path, members: Collection[str], besides: str) -> dict[str, Stamp]:
    """The stamps of `members`, which must be all that lies in `folder` apart from the file `besides`."""
    _check_names(folder, {*members}, besides)
    return {name: _stamp(folder / name) for name in members}


def check_contents(folder: Path, files: Mapping[str, Stamp], besides: str) -> None:
    """Compare every file in `folder` apart from `besides` with its stamp; `BundleError` names the first that differs.

    A file that is missing, one too many, a folder and a link are refused as a changed byte is.
    """
    _check_names(folder, {*files}, besides)
    for name, expected in files.items():
        received = _stamp(folder / name)
        if received.bytes != expected.bytes:
            raise _changed(folder / name, f"{expected.bytes:,} bytes", f"{received.bytes:,} bytes")
        check_sha256(folder / name, received.sha256, expected.sha256)


def check_bytes(path: Path, content: bytes, expected_sha256: str) -> None:
    """Whether `content`, read from `path`, is what was hashed; else `BundleError`."""
    check_sha256(path, hashlib.sha256(content).hexdigest(), expected_sha256)


def check_sha256(path: Path, received: str, expected: str) -> None:
    """`BundleError` with both hashes unless they are the same."""
    if received != expected:
        raise _changed(path, f"SHA-256 {expected}", received)


def _changed(path: Path, expected: str, received: str) -> BundleError:
    return BundleError(f"Expected {path} as it was made, {expected}.", received=received, advice=CHANGED)


def _stamp(path: Path) -> Stamp:
    size, sha256 = size_and_sha256(path, BundleError)
    return Stamp(sha256, size)


def _check_names(folder: Path, members: set[str], besides: str) -> None:
    try:
        found = {entry.name for entry in folder.iterdir()} - {besides}
    except OSError as error:
        raise BundleError(f"Expected a bundle in {folder}.", received=error.strerror, advice=CHANGED) from error
    if missing := sorted(members - found):
        raise BundleError(f"Expected {', '.join(missing)} in {folder}.", received="no such file", advice=CHANGED)
    if further := sorted(found - members):
        raise BundleError(
            f"Expected nothing in {folder} but {', '.join(sorted({*members, besides}))}.",
            received=f"also {', '.join(further)}",
            advice="Move it elsewhere: what is not part of a bundle is not hashed either.",
        )

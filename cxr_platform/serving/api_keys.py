"""API keys.

Keys are kept and compared as SHA-256 digests only. Keys from a file follow the file while the server runs.
"""

import hashlib
import hmac
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from cxr_platform.errors import ServingError

KEYS_VARIABLE, FILE_VARIABLE = "CXR_API_KEYS", "CXR_API_KEYS_FILE"
MIN_CHARACTERS = 16
KEY_ADVICE = 'Create one with: python -c "import secrets; print(secrets.token_urlsafe(32))"'

CHECK_SECONDS = 1.0
"""Interval between two checks of a key file for changes."""

GRACE_SECONDS = 10.0
"""How long the previous keys stay valid after their file was deleted or lost its valid keys."""

FileVersion = tuple[int, ...]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ApiKeys:
    """A fixed set of keys, as SHA-256 digests."""

    digests: tuple[bytes, ...]

    def accepts(self, key: str) -> bool:
        """Return True if `key` is valid. Every digest is compared, so the duration reveals nothing about them."""
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        return sum(hmac.compare_digest(digest, known) for known in self.digests) > 0


class ApiKeyFile:
    """The keys that are in `file` at the moment.

    A check of a key looks at most once per `CHECK_SECONDS` whether the file has changed, and then reads it again.
    `stat` follows links, so a Kubernetes secret, which changes by replacing a link, is followed too.

    If the file is deleted, unreadable or without valid keys, the previous keys stay valid for `GRACE_SECONDS`: an
    editor or a network share may need that long. After that all requests are rejected until the file is valid, because
    an emptied file means that access was withdrawn.
    """

    def __init__(self, file: Path) -> None:
        """Raise `ServingError` if the file is unreadable or holds no valid keys."""
        self._file = file
        self._version = _file_version(file)
        self._keys = _read_keys(file)
        self._checked_at = time.monotonic()
        self._failing_since: float | None = None

    def accepts(self, key: str) -> bool:
        """Return True if `key` is valid now."""
        if time.monotonic() - self._checked_at >= CHECK_SECONDS:
            self._checked_at = time.monotonic()
            self._check_file()
        return self._keys.accepts(key)

    def _check_file(self) -> None:
        version = _file_version(self._file)
        if version is not None and version == self._version and self._failing_since is None:
            return
        try:
            self._keys, self._version, self._failing_since = _read_keys(self._file), version, None
        except ServingError as error:
            if self._failing_since is None:
                log.error("The previous API keys stay valid for %g s, then all are rejected: %s", GRACE_SECONDS, error)
                self._failing_since = self._checked_at
            elif self._keys.digests and self._checked_at - self._failing_since >= GRACE_SECONDS:
                log.error("All requests are rejected until the file of API keys is valid: %s", error)
                self._keys = ApiKeys(())


KeyCheck: TypeAlias = ApiKeys | ApiKeyFile


def load_keys(file: Path | None, environment: Mapping[str, str]) -> KeyCheck | None:
    """Return the keys in `file`, else in the file that CXR_API_KEYS_FILE names, else in CXR_API_KEYS, else `None`.

    A file has one key per line and comments after #; the variable has commas between keys. Raises `ServingError` if
    the file is unreadable, if there is no key, or if a key has fewer than 16 characters.
    """
    if file is None and environment.get(FILE_VARIABLE):
        file = Path(environment[FILE_VARIABLE])
    if file is not None:
        return ApiKeyFile(file)
    if environment.get(KEYS_VARIABLE):
        return _validated_keys(environment[KEYS_VARIABLE].split(","), KEYS_VARIABLE)
    return None


def _file_version(file: Path) -> FileVersion | None:
    """Return values of `stat` that differ once the file, or the file behind its link, is replaced or written."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _read_keys(file: Path) -> ApiKeys:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        received = error.strerror if isinstance(error, OSError) else "another encoding"
        raise ServingError(f"Expected a readable file of API keys in UTF-8 at {file}.", received=received) from error
    return _validated_keys([line.partition("#")[0] for line in lines], str(file))


def _validated_keys(texts: list[str], where: str) -> ApiKeys:
    keys = [text.strip() for text in texts if text.strip()]
    if not keys or min(map(len, keys)) < MIN_CHARACTERS:
        raise ServingError(
            f"Expected keys of {MIN_CHARACTERS} characters or more in {where}.",
            received=f"{len(keys)} keys, the shortest of {min(map(len, keys))}" if keys else "none",
            advice=KEY_ADVICE,
        )
    return ApiKeys(tuple(hashlib.sha256(key.encode()).digest() for key in keys))

"""API keys: who may ask. They are kept and compared as digests only, and those of a file follow the file."""

import hashlib
import hmac
import ipaddress
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cxr_platform.errors import ServingError

KEYS_VARIABLE, FILE_VARIABLE = "CXR_API_KEYS", "CXR_API_KEYS_FILE"
LEAST_CHARACTERS = 16
HOW_TO = 'Make one with: python -c "import secrets; print(secrets.token_urlsafe(32))"'

LOOK_SECONDS = 1.0
"""Between two looks at a file of keys."""

GRACE_SECONDS = 10.0
"""How long the keys before go on where their file holds none that can be read."""

Mark = tuple[int, ...]
log = logging.getLogger(__name__)


class KeyCheck(Protocol):
    """Who knows the keys."""

    def open_to(self, given: str) -> bool:
        """Whether `given` is one of the keys."""


@dataclass(frozen=True)
class Keys:
    """SHA-256 of every key that opens the server."""

    digests: tuple[bytes, ...]

    def open_to(self, given: str) -> bool:
        """Whether `given` is one of the keys; the time this takes tells nothing about them."""
        digest = hashlib.sha256(given.encode("utf-8", "surrogateescape")).digest()
        return sum(hmac.compare_digest(digest, known) for known in self.digests) > 0  # every one is compared


class FileKeys:
    """The keys that are in `file` now: one that is taken out opens no longer, one that is added does.

    Asked for a key, it looks whether the file is another one, once in `LOOK_SECONDS` at most, and reads it again if so;
    `stat` follows links, so a Kubernetes secret, which changes by turning one, is followed too.

    A file that is gone, unreadable, or without good keys lets the keys before go on for `GRACE_SECONDS` after that is
    seen, as long as an editor's writing or a hiccup of a share may take, and then nobody in until it is mended: whoever
    empties or deletes the file wants somebody out, and a server that refuses everybody is noticed, one that still knows
    that key is not.
    """

    def __init__(self, file: Path) -> None:
        """Raises `ServingError` for a file that is unreadable or holds no good keys."""
        self._file = file
        self._seen: Mark | None = _mark(file)
        self._keys = _keys_of(file)
        self._looked = time.monotonic()
        self._failing_since: float | None = None

    def open_to(self, given: str) -> bool:
        """See `KeyCheck`."""
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self._looked = time.monotonic()
            self._look()
        return self._keys.open_to(given)

    def _look(self) -> None:
        mark = _mark(self._file)
        if mark is None or mark != self._seen or self._failing_since is not None:
            try:
                self._keys, self._seen, self._failing_since = _keys_of(self._file), mark, None
            except ServingError as error:
                self._note_failure(error)

    def _note_failure(self, error: ServingError) -> None:
        if self._failing_since is None:
            log.error("The API keys before go on for %g s, and then nobody is let in: %s", GRACE_SECONDS, error)
            self._failing_since = self._looked
        elif self._keys.digests and self._looked - self._failing_since >= GRACE_SECONDS:
            log.error("Nobody is let in until the file of API keys is mended: %s", error)
            self._keys = Keys(())


def find_keys(file: Path | None, environment: Mapping[str, str]) -> KeyCheck | None:
    """The keys of `file`, else of the file that CXR_API_KEYS_FILE names, else those in CXR_API_KEYS; else `None`.

    A key a line in a file (# begins a comment), commas between them in the variable. Those of a file follow it
    (`FileKeys`), those of the variable stay. Raises `ServingError` for a file that is unreadable or holds none, and for
    a key of fewer than 16 characters.
    """
    named = file or (Path(environment[FILE_VARIABLE]) if environment.get(FILE_VARIABLE) else None)
    if named is not None:
        return FileKeys(named)
    if environment.get(KEYS_VARIABLE):
        return _keys([key.strip() for key in environment[KEYS_VARIABLE].split(",")], KEYS_VARIABLE)
    return None


def check_exposure(host: str, keys: KeyCheck | None) -> None:
    """Raise `ServingError` for a server without keys that other machines could reach."""
    if keys is None and not is_loopback(host):
        raise ServingError(
            f"Expected API keys for a server on {host}; without them it may only listen on 127.0.0.1.",
            received="none",
            advice=f"Name a file with --keys, or set {KEYS_VARIABLE}. {HOW_TO}",
        )


def is_loopback(host: str | None) -> bool:
    """Whether an address or name is this machine's own, and only reachable from it."""
    if host == "localhost":
        return True
    try:
        return host is not None and ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def key_in(headers: Mapping[str, str]) -> str:
    """The key in `Authorization: Bearer KEY` or `X-API-Key: KEY`; empty where there is none."""
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    return bearer.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")


def _mark(file: Path) -> Mark | None:
    """What differs once the file, or the one that its link leads to, is another; `None` where there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _keys_of(file: Path) -> Keys:
    return _keys([line.partition("#")[0].strip() for line in _lines(file)], str(file))


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        received = error.strerror if isinstance(error, OSError) else "another encoding"
        raise ServingError(f"Expected a readable file of API keys in UTF-8 at {file}.", received=received) from error


def _keys(found: list[str], where: str) -> Keys:
    keys = [key for key in found if key]
    if not keys or min(map(len, keys)) < LEAST_CHARACTERS:
        raise ServingError(
            f"Expected keys of {LEAST_CHARACTERS} characters or more in {where}.",
            received=f"{len(keys)} keys, the shortest of {min(map(len, keys))}" if keys else "none",
            advice=HOW_TO,
        )
    return Keys(tuple(hashlib.sha256(key.encode()).digest() for key in keys))

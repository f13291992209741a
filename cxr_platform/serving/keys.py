"""API keys: who may ask. They are kept and compared as digests only."""

import hashlib
import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cxr_platform.errors import ServingError

KEYS_VARIABLE, FILE_VARIABLE = "CXR_API_KEYS", "CXR_API_KEYS_FILE"
LEAST_CHARACTERS = 16
HOW_TO = 'Make one with: python -c "import secrets; print(secrets.token_urlsafe(32))"'


@dataclass(frozen=True)
class Keys:
    """SHA-256 of every key that opens the server."""

    digests: tuple[bytes, ...]

    def open_to(self, given: str) -> bool:
        """Whether `given` is one of the keys; the time this takes tells nothing about them."""
        digest = hashlib.sha256(given.encode("utf-8", "surrogateescape")).digest()
        return sum(hmac.compare_digest(digest, known) for known in self.digests) > 0  # every one is compared


def find_keys(file: Path | None, environment: Mapping[str, str]) -> Keys | None:
    """The keys of `file`, else of the file that CXR_API_KEYS_FILE names, else those in CXR_API_KEYS; else `None`.

    A key a line in a file (# begins a comment), commas between them in the variable. Raises `ServingError` for a file
    that is unreadable or holds none, and for a key of fewer than 16 characters.
    """
    named = file or (Path(environment[FILE_VARIABLE]) if environment.get(FILE_VARIABLE) else None)
    if named is not None:
        return _keys([line.partition("#")[0].strip() for line in _lines(named)], str(named))
    if environment.get(KEYS_VARIABLE):
        return _keys([key.strip() for key in environment[KEYS_VARIABLE].split(",")], KEYS_VARIABLE)
    return None


def check_exposure(host: str, keys: Keys | None) -> None:
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

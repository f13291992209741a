"""API keys: their names, limits and last days.

Keys are kept and compared as SHA-256 digests only. Keys from a file follow the file while the server runs.
"""

import hashlib
import hmac
import logging
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from pathlib import Path
from typing import TypeAlias

from cxr_platform.errors import ServingError
from cxr_platform.serving.problems import Problem

KEYS_VARIABLE, FILE_VARIABLE = "CXR_API_KEYS", "CXR_API_KEYS_FILE"
MIN_CHARACTERS = 16
KEY_ADVICE = 'Create one with: python -c "import secrets; print(secrets.token_urlsafe(32))"'

NAMED_KEY = re.compile(r"(?:(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,39}):)?(?P<key>[!-~]*)")
NAME_BY_PLACE = re.compile(r"key-\d+")
"""The name of a key without one."""

OPTIONS: Mapping[str, re.Pattern[str]] = {
    "limit": re.compile(r"0*[1-9][0-9]{0,8}"),
    "until": re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}"),
}
"""What may follow a key, and its form; `int` and `date.fromisoformat` take more, such as 1_0 and 20270331."""

CHECK_SECONDS = 1.0
"""Interval between two checks of a key file for changes."""

GRACE_SECONDS = 10.0
"""How long the previous keys stay valid after their file was deleted or lost its valid keys."""

FileVersion = tuple[int, ...]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ApiKey:
    """A key as its SHA-256 digest, with its name, requests per minute (`None`: unlimited) and last valid day (UTC)."""

    name: str
    digest: bytes = field(repr=False)
    per_minute: int | None = None
    until: date | None = None


@dataclass(frozen=True)
class ApiKeys:
    """A fixed set of keys."""

    keys: tuple[ApiKey, ...]

    def find(self, key: str) -> ApiKey | None:
        """Return the valid key that equals `key`. All are compared, so the duration reveals nothing about them."""
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        matches = [known for known in self.keys if hmac.compare_digest(digest, known.digest)]
        today = datetime.now(timezone.utc).date()
        return next((known for known in matches if known.until is None or today <= known.until), None)


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

    def find(self, key: str) -> ApiKey | None:
        """Return the key that equals `key` and is valid now."""
        if time.monotonic() - self._checked_at >= CHECK_SECONDS:
            self._checked_at = time.monotonic()
            self._check_file()
        return self._keys.find(key)

    def _check_file(self) -> None:
        version = _file_version(self._file)
        if version is not None and version == self._version and self._failing_since is None:
            return
        try:
            self._keys, self._version, self._failing_since = _read_keys(self._file), version, None
        except Exception as exception:  # whatever it is, keys that were removed must not stay valid
            error = exception if isinstance(exception, ServingError) else type(exception).__name__
            if self._failing_since is None:
                log.error("The previous API keys stay valid for %g s, then all are rejected: %s", GRACE_SECONDS, error)
                self._failing_since = self._checked_at
            elif self._keys.keys and self._checked_at - self._failing_since >= GRACE_SECONDS:
                log.error("All requests are rejected until the file of API keys is valid: %s", error)
                self._keys = ApiKeys(())


KeyCheck: TypeAlias = ApiKeys | ApiKeyFile


def load_keys(file: Path | None, environment: Mapping[str, str]) -> KeyCheck | None:
    """Return the keys in `file`, else in the file that CXR_API_KEYS_FILE names, else in CXR_API_KEYS, else `None`.

    A file has one key per line (`parse_keys`) and comments after #; the variable has commas between keys. Raises
    `ServingError` if the file is unreadable, if there is no key, or if a key is not valid.
    """
    if file is None and environment.get(FILE_VARIABLE):
        file = Path(environment[FILE_VARIABLE])
    if file is not None:
        return ApiKeyFile(file)
    if environment.get(KEYS_VARIABLE):
        return parse_keys(environment[KEYS_VARIABLE].split(","), KEYS_VARIABLE)
    return None


def parse_keys(texts: Sequence[str], where: str) -> ApiKeys:
    """Return the keys in `texts`, each as `[NAME:]KEY [limit=REQUESTS PER MINUTE] [until=YYYY-MM-DD]`.

    A key without a name is called key-1, key-2, … by its position. Two keys may have one name, while one replaces the
    other, and then one limit. Raises `ServingError` with `where`, and never with a key, if there is none, if one has
    fewer than 16 characters or stands there twice, or if its name or what follows it is not valid.
    """
    parsed = [_parse_key(text, number, where) for number, text in enumerate(filter(None, map(str.strip, texts)), 1)]
    if not parsed:
        raise ServingError(
            f"Expected keys of {MIN_CHARACTERS} characters or more in {where}.", received="none", advice=KEY_ADVICE
        )
    limits = {name: per_minute for name, _, per_minute, _ in parsed}
    names: dict[str, str] = {}
    for name, key, per_minute, _ in parsed:
        if len(key) < MIN_CHARACTERS:
            raise ServingError(
                f"Expected keys of {MIN_CHARACTERS} characters or more in {where}.",
                received=f"{len(key)} characters in {name}",
                advice=KEY_ADVICE,
            )
        if per_minute != limits[name]:
            raise ServingError(f"Expected keys of one name in {where} to have one limit.", received=f"two of {name}")
        if key in names:  # only one name and limit would count, and the last day of one would not end the other
            raise ServingError(
                f"Expected each key in {where} once.",
                received=f"the same for {names[key]} and {name}"
                if names[key] != name
                else f"the same twice for {name}",
                advice="Change the line of a key, or remove it, to revoke it. " + KEY_ADVICE,
            )
        names[key] = name
    return ApiKeys(
        tuple(
            ApiKey(name, hashlib.sha256(key.encode()).digest(), per_minute, until)
            for name, key, per_minute, until in parsed
        )
    )


def _parse_key(text: str, number: int, where: str) -> tuple[str, str, int | None, date | None]:
    first, *options = text.split()
    match = NAMED_KEY.fullmatch(first)
    if match is None:
        raise ServingError(f"Expected keys of ASCII characters in {where}.", received=f"another in key {number}")
    name = match["name"] or f"key-{number}"
    if match["name"] and NAME_BY_PLACE.fullmatch(name):
        raise ServingError(
            f"Expected another name for a key in {where}: keys without one are key-1, key-2, ….", received=name
        )
    values = dict(option.partition("=")[::2] for option in options)
    try:
        if len(values) < len(options) or not all(OPTIONS[option].fullmatch(values[option]) for option in values):
            raise ValueError
        per_minute = int(values["limit"]) if "limit" in values else None
        until = date.fromisoformat(values["until"]) if "until" in values else None
    except (KeyError, ValueError):
        own = values.keys() <= OPTIONS.keys()
        raise ServingError(  # with no value, which may be a part of a key
            f"Expected limit=REQUESTS PER MINUTE and until=YYYY-MM-DD after a key in {where}.",
            received=f"another {' and '.join(values)} of {name}" if own else f"something else after key {number}",
            advice="Each at most once and without spaces; a key has none either.",
        ) from None
    return name, match["key"], per_minute, until


class RequestLimits:
    """The requests that keys with a limit may still send: a minute's worth at once, then one by one (token bucket).

    Each proxy counts for itself.
    """

    def __init__(self) -> None:
        self._tokens: dict[str, tuple[float, float]] = {}  # number and time, by the name of the key

    def take(self, key: ApiKey | None) -> None:
        """Count a request; raise `Problem` (key-limit) if the key has had its share."""
        if key is None or key.per_minute is None:
            return
        now, per_second = time.monotonic(), key.per_minute / 60
        tokens, before = self._tokens.get(key.name, (float(key.per_minute), now))
        tokens = min(float(key.per_minute), tokens + (now - before) * per_second)
        if tokens < 1:
            self._tokens[key.name] = tokens, now
            raise Problem("key-limit", retry_seconds=math.ceil((1 - tokens) / per_second))
        self._tokens[key.name] = tokens - 1, now


def _file_version(file: Path) -> FileVersion | None:
    """Return values of `stat` that differ once the file, or the file behind its link, is replaced or written."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _read_keys(file: Path) -> ApiKeys:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()  # editors of Windows begin a file with a mark
    except (OSError, UnicodeDecodeError) as error:
        received = error.strerror if isinstance(error, OSError) else "another encoding"
        raise ServingError(f"Expected a readable file of API keys in UTF-8 at {file}.", received=received) from error
    for number, line in enumerate(lines, 1):
        if re.match(r"[^#]*[^#\s]#", line):  # a key that is cut off there would be valid, and the whole key would not
            raise ServingError(
                f"Expected a space before the # of a comment in line {number} of {file}.",
                received="another character",
                advice="A key in a file has no #.",
            )
    return parse_keys([line.partition("#")[0] for line in lines], str(file))

"""`registry.json`: the versions that there are, which of them is the champion, and how it came to be."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from cxr_platform.errors import RegistryError
from cxr_platform.registry.bundle_rules import SHA256, VERSION, is_utc_time
from cxr_platform.registry.strict_json import Mismatch, build, check_schema, json_tree, to_json

SCHEMA_VERSION: Final = 1


@dataclass(frozen=True)
class VersionEntry:
    """SHA-256 of a version's bundle.json, which holds those of its other files, and when it was added."""

    sha256: str
    created: str


@dataclass(frozen=True)
class Event:
    """`version` became the champion by this `action` at `at`; servers answer with it from `effective_at` on (UTC)."""

    version: str
    action: Literal["promote", "rollback"]
    at: str
    effective_at: str
    reason: str
    forced: bool


@dataclass(frozen=True)
class State:
    """The content of registry.json. A version stays in `versions` when its folder is deleted: numbers are used once."""

    versions: Mapping[str, VersionEntry] = field(default_factory=dict)
    champion: str | None = None
    history: tuple[Event, ...] = ()
    schema_version: Literal[1] = SCHEMA_VERSION

    @property
    def names(self) -> tuple[str, ...]:
        """The versions, the oldest first."""
        return tuple(sorted(self.versions, key=number))

    @property
    def before(self) -> str | None:
        """The champion to which a rollback goes."""
        line = champions(self.history)
        return line[-2] if len(line) > 1 else None

    def effective(self, moment: datetime) -> str | None:
        """The version that servers answer with at `moment` (with a time zone); `None` before the first promotion.

        A change that was overtaken while it was still to come never takes effect: who goes back within the lead time
        does so because that version is bad.
        """
        after: Event | None = None
        for event in reversed(self.history):
            overtaken = after is not None and _time(after.at) <= _time(event.effective_at)
            if not overtaken and _time(event.effective_at) <= moment:
                return event.version
            after = event
        return None

    def to_json(self) -> bytes:
        """The bytes of registry.json."""
        return to_json(asdict(self))


def champions(history: Sequence[Event]) -> list[str]:
    """The champions that rollbacks walk back through, the present one last; `Mismatch` for an impossible step."""
    line: list[str] = []
    for i, event in enumerate(history):
        if event.action == "promote":
            line.append(event.version)
        elif len(line) < 2 or line[-2] != event.version:
            raise Mismatch(f"history[{i}] to go back to {line[-2] if len(line) > 1 else 'a version'}", event.version)
        else:
            line.pop()
    return line


def _time(iso: str) -> datetime:
    return datetime.fromisoformat(iso)


def number(version: str) -> int:
    """3 for v3."""
    return int(version[1:])


def parse_state(content: bytes, path: Path) -> State:
    """The state that the bytes of registry.json state; `RegistryError` says what is wrong and how to go on."""
    try:
        tree = json_tree(content)
        check_schema(tree, SCHEMA_VERSION)
        state = build(State, tree)
        _check(state)
    except Mismatch as mismatch:
        raise RegistryError(
            f"{path}: expected {mismatch.expected}.",
            received=mismatch.received,
            advice=mismatch.advice or put_back(path),
        ) from mismatch
    return state


def previous(path: Path) -> Path:
    """Where the state before the last change is kept."""
    return path.with_name(f"{path.name}.previous")


def put_back(path: Path) -> str:
    """What to do about a registry.json that is lost or broken."""
    return f"Put {previous(path).name}, the state before the last change, or a backup in its place."


def _check(state: State) -> None:
    for name, entry in state.versions.items():
        if not VERSION.fullmatch(name):
            raise Mismatch("versions to be called v1, v2, …", repr(name))
        if not SHA256.fullmatch(entry.sha256):
            raise Mismatch(f"versions.{name}.sha256 of 64 hexadecimal digits", repr(entry.sha256))
    for i, event in enumerate(state.history):
        if event.version not in state.versions:
            raise Mismatch(f"history[{i}].version to be one of versions", repr(event.version))
        for key in ("at", "effective_at"):
            if not is_utc_time(getattr(event, key)):
                raise Mismatch(f"history[{i}].{key} to be an ISO time in UTC (+00:00)", repr(getattr(event, key)))
    last = next(reversed(champions(state.history)), None)
    if state.champion != last:
        raise Mismatch(f"champion to be {last}, as history has it", state.champion)

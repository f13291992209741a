"""`registry.json`: the versions of a registry, which of them is the champion, and the history of that choice."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from cxr_platform.errors import RegistryError
from cxr_platform.registry.bundle import VersionName
from cxr_platform.registry.checksums import Sha256
from cxr_platform.validation import Record, UtcTime, parse_record


class VersionEntry(Record):
    """SHA-256 of a version's bundle.json, which holds those of its other files, and when the bundle was made."""

    sha256: Sha256
    created: UtcTime


class Event(Record):
    """`version` became the champion by `action` at `at`; servers answer with it from `effective_at` on."""

    version: VersionName
    action: Literal["promote", "rollback"]
    at: UtcTime
    effective_at: UtcTime
    reason: str
    forced: bool


class RegistryState(Record):
    """Content of registry.json. A deleted version stays in `versions`, so that no number is used twice."""

    schema_version: Literal[1] = 1
    versions: dict[VersionName, VersionEntry] = Field(default_factory=dict)
    champion: str | None = None
    history: tuple[Event, ...] = ()

    @model_validator(mode="after")
    def _check_history(self) -> Self:
        for i, event in enumerate(self.history):
            if event.version not in self.versions:
                raise ValueError(f"history.{i}.version to be one of versions, not {event.version!r}")
        last = next(reversed(champions(self.history)), None)
        if self.champion != last:
            raise ValueError(f"champion to be {last}, the last of history, not {self.champion}")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The versions, oldest first."""
        return tuple(sorted(self.versions, key=number))

    @property
    def before(self) -> str | None:
        """The champion that a rollback restores."""
        line = champions(self.history)
        return line[-2] if len(line) > 1 else None

    def effective(self, moment: datetime) -> str | None:
        """Return the version that servers use at `moment` (with a time zone), `None` before the first promotion.

        A change that is followed by another one within its lead time never takes effect: a rollback within that time
        means that the promoted version must not answer at all.
        """
        after: Event | None = None
        for event in reversed(self.history):
            overtaken = after is not None and after.at <= event.effective_at
            if not overtaken and event.effective_at <= moment:
                return event.version
            after = event
        return None


def champions(history: Sequence[Event]) -> list[str]:
    """Return the champions that rollbacks restore one by one, the present one last.

    Raise `ValueError` for a rollback to a version that was not the champion before.
    """
    line: list[str] = []
    for i, event in enumerate(history):
        if event.action == "promote":
            line.append(event.version)
        elif len(line) < 2 or line[-2] != event.version:
            expected = line[-2] if len(line) > 1 else "an earlier champion"
            raise ValueError(f"history.{i} to go back to {expected}, not {event.version}")
        else:
            line.pop()
    return line


def number(version: str) -> int:
    """Return 3 for v3."""
    return int(version[1:])


def parse_state(content: bytes, path: Path) -> RegistryState:
    """Return the state in a registry.json; raise `RegistryError` with the wrong key and what to restore."""
    return parse_record(RegistryState, content, str(path), RegistryError, restore_advice(path), complete=True)


def previous(path: Path) -> Path:
    """Return the file that holds the state before the last change."""
    return path.with_name(f"{path.name}.previous")


def restore_advice(path: Path) -> str:
    """Return what to do about a registry.json that is lost or damaged."""
    return f"Put {previous(path).name}, the state before the last change, or a backup in its place."

"""What a collection says of one file, before the file is opened."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Role = Literal["study", "external"]


@dataclass(frozen=True)
class Refusal:
    """Why a file does not take part: a code of `intake.reasons` and a detail for a person."""

    reason: str
    detail: str


@dataclass(frozen=True)
class Candidate:
    """One file of a collection.

    `source_path` is `SOURCE/relative/path` (POSIX), the same on every machine. `patient` is the collection's own key
    (hashed with a salt before it is stored), unique within the source; `None` where the collection has none.
    `view` is PA, AP, AP Supine, L, …; `sex` M or F; `age` in years; each `None` where not given.
    `refusal` is set where the collection's own table already excludes the image; `label` is then often `None`.
    """

    source: str
    path: Path
    source_path: str
    label: str | None = None
    finding: str = ""
    patient: str | None = None
    view: str | None = None
    sex: str | None = None
    age: float | None = None
    role: Role = "study"
    refusal: Refusal | None = None

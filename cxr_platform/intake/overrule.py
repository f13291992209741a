"""`overrule.toml`: allow and deny lists with which a person overrules the exclusions.

    allow = ["chest_xray/train/NORMAL/IM-0001.jpeg"]    # used in spite of its view, quality, …
    deny = ["covid-chestxray-dataset/images/1.png"]     # not used, whatever else applies

The file is `DATA/overrule.toml`, or any other that is named instead. Paths are those of `excluded.parquet` and of the
contact sheets.
"""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from pydantic import model_validator

from cxr_platform.errors import ConfigError
from cxr_platform.intake.candidate import UNFIT, Candidate
from cxr_platform.validation import Record, read_toml, validate

FILE_NAME = "overrule.toml"
OVERRULABLE = UNFIT
"""Reasons that the allow list overrules, for an image whose class is known."""


class Overrule(Record):
    """The `source_path`s that are used in spite of `OVERRULABLE` reasons, and those that are not used at all."""

    allow: frozenset[str] = frozenset()
    deny: frozenset[str] = frozenset()

    @model_validator(mode="after")
    def _lists_are_disjoint(self) -> "Overrule":
        if both := self.allow & self.deny:
            raise ValueError(f"each image in one list, not {min(both)!r} in allow and in deny")
        return self

    def lift(self, candidate: Candidate) -> Candidate:
        """Return `candidate` without its refusal if that is overrulable and the candidate is in the allow list."""
        refusal = candidate.refusal
        has_class = candidate.label is not None or candidate.role == "outside"  # outside images need none
        liftable = refusal is not None and refusal.reason in OVERRULABLE and has_class
        return replace(candidate, refusal=None) if liftable and candidate.source_path in self.allow else candidate


def read_overrule(path: Path, known: Collection[str]) -> Overrule:
    """Read the lists; raise `ConfigError` for another key, another type, or a path that is not in `known`."""
    overrule = validate(Overrule, read_toml(path), str(path))
    for key, paths in (("allow", overrule.allow), ("deny", overrule.deny)):
        if unknown := sorted(paths - set(known)):
            raise ConfigError(
                f"{path}: expected the paths in {key} to be files of the collections.",
                received=repr(unknown[0]) + (f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""),
                advice="Write them as in excluded.parquet: SOURCE/relative/path.",
            )
    return overrule

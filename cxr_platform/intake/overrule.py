"""The allow and deny lists with which a person overrules the exclusions.

    allow = ["chest_xray/train/NORMAL/IM-0001.jpeg"]    # take part although view or quality say no
    deny = ["covid-chestxray-dataset/images/1.png"]     # take no part, whatever is said elsewhere

in `DATA/overrule.toml` or any file named instead. Paths are those of `excluded.parquet` and of the contact sheets.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from cxr_platform.errors import ConfigError
from cxr_platform.intake.candidate import Candidate
from cxr_platform.validation import read_toml

FILE_NAME = "overrule.toml"
OVERRULABLE = ("low-contrast", "partial", "not-upright", "low-resolution", "view")
"""Judgements of `intake.quality`, and the view of an image whose class is known. What else the collection says, or what
cannot be decoded, is not for overruling."""


@dataclass(frozen=True)
class Overrule:
    """`source_path`s that are taken in spite of their view or quality, and those that are not taken at all."""

    allow: frozenset[str] = frozenset()
    deny: frozenset[str] = frozenset()

    def lift(self, candidate: Candidate) -> Candidate:
        """The candidate without its table's refusal where that may be, and is, overruled."""
        refused = candidate.refusal
        liftable = refused is not None and refused.reason in OVERRULABLE and candidate.label is not None
        return replace(candidate, refusal=None) if liftable and candidate.source_path in self.allow else candidate


def read_overrule(path: Path, known: Collection[str]) -> Overrule:
    """Read the lists; raises `ConfigError` for another key, for no list of text, or a path that is not in `known`."""
    tree = read_toml(path)
    other = sorted(tree.keys() - {"allow", "deny"})
    if other:
        raise ConfigError(f"{path}: expected the keys allow and deny.", received=", ".join(other))
    lists = {key: _paths(path, key, tree.get(key, []), known) for key in ("allow", "deny")}
    both = lists["allow"] & lists["deny"]
    if both:
        raise ConfigError(f"{path}: expected each image in one list.", received=f"{min(both)!r} in allow and in deny")
    return Overrule(**lists)


def _paths(path: Path, key: str, value: object, known: Collection[str]) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ConfigError(f"{path}: expected {key} to be a list of source paths.", received=repr(value))
    unknown = sorted(set(value) - set(known))
    if unknown:
        raise ConfigError(
            f"{path}: expected the paths in {key} to be files of the collections.",
            received=repr(unknown[0]) + (f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""),
            advice="Write them as in excluded.parquet: SOURCE/relative/path.",
        )
    return frozenset(value)

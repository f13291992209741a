"""The chain of decisions between decoding and writing: what is taken, in which groups, and why not the rest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cxr_platform.config import Profile
from cxr_platform.intake.candidate import Candidate
from cxr_platform.intake.overrule import Overrule
from cxr_platform.manifest.cache import PixelReader
from cxr_platform.manifest.grouping import group_films
from cxr_platform.manifest.pseudonyms import pseudonym
from cxr_platform.manifest.records import Decoded
from cxr_platform.manifest.selection import (
    Excluded,
    Shortfall,
    Taken,
    draw,
    judge_files,
    part_conflicts,
    part_overlap,
    part_repeats,
)


@dataclass(frozen=True)
class Choice:
    """The films of the manifest by source_path, with patient (salted) and group of each, and everything left out."""

    taken: list[Taken]
    patients: list[str | None]
    groups: list[str]
    excluded: list[Excluded]
    shortfalls: list[Shortfall]


def choose(
    candidates: Sequence[Candidate],
    decoded: Mapping[str, Decoded],
    lists: Overrule,
    profile: Profile,
    salt: str,
    pixels: PixelReader,
) -> Choice:
    """Decide on every candidate. Groups are formed before films are drawn, so that they do not depend on the draw."""
    selection = profile.intake.selection
    taken, excluded = judge_files(candidates, decoded, lists, profile.intake)
    taken, conflicts = part_conflicts(taken)
    taken, repeats = part_repeats(taken) if selection.duplicates == "drop" else (taken, [])
    patients = {film.image_id: _patient(film, salt) for film in taken}
    names = group_films(taken, list(patients.values()), selection.near_duplicate_distance, pixels)
    groups = dict(zip(patients, names, strict=True))
    taken, overlap = part_overlap(taken, groups)
    (taken, not_drawn), shortfalls = draw(taken, selection, profile.seed)
    return Choice(
        taken=taken,
        patients=[patients[film.image_id] for film in taken],
        groups=[groups[film.image_id] for film in taken],
        excluded=[*excluded, *conflicts, *repeats, *overlap, *not_drawn],
        shortfalls=shortfalls,
    )


def _patient(film: Taken, salt: str) -> str | None:
    """The collection's own key comes before that in a DICOM header, which is often blank or the same for all."""
    told = pseudonym(salt, film.candidate.source, film.candidate.patient)
    return told or film.facts.patient_id

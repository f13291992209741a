"""The chain of decisions between decoding and writing: what is taken, in which groups, and why not the rest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cxr_platform.config import Profile
from cxr_platform.intake.candidate import Candidate
from cxr_platform.intake.overrule import Overrule
from cxr_platform.manifest.cache import PixelReader
from cxr_platform.manifest.grouping import group_images
from cxr_platform.manifest.patient_ids import pseudonym
from cxr_platform.manifest.records import Decoded
from cxr_platform.manifest.selection import (
    Excluded,
    Shortfall,
    Taken,
    check_allowed,
    draw,
    judge_files,
    part_conflicts,
    part_overlap,
    part_repeats,
)


@dataclass(frozen=True)
class Choice:
    """The images of the manifest by source_path, with patient (salted) and group of each, and everything left out."""

    taken: list[Taken]
    patients: list[str | None]
    groups: list[str]
    excluded: list[Excluded]
    shortfalls: list[Shortfall]

    @property
    def header_patients(self) -> int:
        """How many images have their patient from the header of the file alone."""
        return sum(not image.candidate.patient and image.facts.patient_id is not None for image in self.taken)


def choose(
    candidates: Sequence[Candidate],
    decoded: Mapping[str, Decoded],
    lists: Overrule,
    profile: Profile,
    salt: str,
    pixels: PixelReader,
    scratch: Path | None = None,
) -> Choice:
    """Decide on every candidate. Groups are formed before images are drawn, so that they do not depend on the draw.

    `scratch` is a folder of this machine for what does not fit into memory, such as the one that is being built in.

    Raises `ConfigError` for an allow list that names what cannot be allowed, `ManifestError` for a lost file,
    `StorageError` for a `scratch` that is full.
    """
    selection = profile.intake.selection
    taken, excluded = judge_files(candidates, decoded, lists, profile.intake)
    taken, conflicts = part_conflicts(taken)
    check_allowed([*excluded, *conflicts], lists)
    taken, repeats = part_repeats(taken) if selection.duplicates == "drop" else (taken, [])
    patients = {image.image_id: _patient(image, salt) for image in taken}
    names = group_images(taken, list(patients.values()), selection.near_duplicate_distance, pixels, scratch)
    groups = dict(zip(patients, names, strict=True))
    (taken, not_drawn), shortfalls = draw(taken, selection, profile.seed)
    taken, overlap = part_overlap(taken, groups)
    return Choice(
        taken=taken,
        patients=[patients[image.image_id] for image in taken],
        groups=[groups[image.image_id] for image in taken],
        excluded=[*excluded, *conflicts, *repeats, *not_drawn, *overlap],
        shortfalls=shortfalls,
    )


def _patient(image: Taken, salt: str) -> str | None:
    """The collection's own key comes before that in a DICOM header, which is often blank or made up."""
    told = pseudonym(salt, image.candidate.source, image.candidate.patient)
    return told or image.facts.patient_id

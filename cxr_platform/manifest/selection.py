"""Which files become rows of the manifest and in which groups: the rules of `exclusions`, in their order."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cxr_platform.config import Profile
from cxr_platform.intake.overrule import Overrule
from cxr_platform.intake.sources import Inventory
from cxr_platform.manifest.cache import PixelReader
from cxr_platform.manifest.exclusions import (
    check_allowed,
    draw_images,
    exclude_conflicts,
    exclude_overlap,
    exclude_repeats,
    judge_files,
    place_contrast,
    place_outside,
)
from cxr_platform.manifest.grouping import CopySearch, group_images, related_groups
from cxr_platform.manifest.patients import image_patients
from cxr_platform.manifest.records import Decoded, ExcludedFile, SelectedImage
from cxr_platform.manifest.schema import Shortfall
from cxr_platform.progress import Progress


@dataclass(frozen=True)
class Selection:
    """The images of a manifest by source_path, each with its patient (salted hash) and group, and all other files."""

    images: list[SelectedImage]
    patients: list[str | None]
    groups: list[str]
    excluded: list[ExcludedFile]
    shortfalls: list[Shortfall]
    shared_patients: dict[str, int] = field(default_factory=dict)
    """Source → images with an identifier that nearly every image of the source, or of its origin, has: no patient."""

    @property
    def header_patients(self) -> int:
        """Number of images whose patient is known from the DICOM header alone."""
        return sum(not image.candidate.patient and image.facts.patient_id is not None for image in self.images)


def select_images(
    inventory: Inventory,
    decoded: Mapping[str, Decoded],
    overrule: Overrule,
    profile: Profile,
    salt: str,
    pixels: PixelReader,
    scratch: Path | None = None,
    progress: Progress | None = None,
) -> Selection:
    """Decide on every candidate. Images are grouped before they are drawn, so groups do not depend on the draw.

    Of `inventory` the candidates and the origins of their sources count, as sources of one origin share patients.
    `decoded` maps `source_path` to the result of decoding. `scratch` is a local folder for what does not fit into
    memory. Raises `ConfigError` for an image in the allow list that cannot be allowed, `ManifestError` for a file that
    was not decoded, `StorageError` if `scratch` is full.

    Contrast images are added to the groups at the end, and outside images after them, so that the other images do not
    depend on them.
    """
    config = profile.intake.selection
    images, excluded = judge_files(inventory.candidates, decoded, overrule, profile.intake)
    images, conflicts = exclude_conflicts(images)
    check_allowed([*excluded, *conflicts], overrule)
    images, repeats = exclude_repeats(images) if config.duplicates == "drop" else (images, [])
    contrast, images = _parted(images, lambda image: image.is_contrast)
    outside, images = _parted(images, lambda image: image.is_outside)
    known = image_patients(images, salt, inventory.origins)
    identifiers = [list(known.patients.values()), list(known.headers.values())]
    copies = CopySearch(pixels, config.near_duplicate_distance, config.find_crops, scratch, progress)
    names = group_images(images, identifiers, copies)
    groups = dict(zip(known.patients, names, strict=True))
    of_groups = images
    (images, not_drawn), shortfalls = draw_images(images, config, profile.seed)
    images, overlap = exclude_overlap(images, groups)
    patients = known.patients
    unplaced: list[ExcludedFile] = []
    for added, place in ((contrast, place_contrast), (outside, place_outside)):
        if not added:
            continue
        of_all = image_patients([*added, *of_groups], salt, inventory.origins)
        identifiers = [list(of_all.patients.values()), list(of_all.headers.values())]
        names = [groups[image.image_id] for image in of_groups]
        related = related_groups(added, of_groups, names, identifiers, copies)
        kept, own, refused = place(added, related, images, groups)
        groups, patients = groups | own, of_all.patients | patients
        images, of_groups, unplaced = [*images, *kept], [*of_groups, *kept], [*unplaced, *refused]
    images.sort(key=lambda image: image.candidate.source_path)
    return Selection(
        images=images,
        patients=[patients[image.image_id] for image in images],
        groups=[groups[image.image_id] for image in images],
        excluded=[*excluded, *conflicts, *repeats, *not_drawn, *overlap, *unplaced],
        shortfalls=shortfalls,
        shared_patients=known.shared,
    )


def _parted(
    images: Sequence[SelectedImage], belongs: Callable[[SelectedImage], bool]
) -> tuple[list[SelectedImage], list[SelectedImage]]:
    """Return the images for which `belongs` is true, and the others."""
    return [image for image in images if belongs(image)], [image for image in images if not belongs(image)]

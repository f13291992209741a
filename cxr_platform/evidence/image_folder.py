"""A folder of images that are not in a study, with the intake of the study's own: decoded, checked and grouped."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from cxr_platform.config import Profile
from cxr_platform.errors import NotPossible, SourceError
from cxr_platform.evidence.external_images import SIDES, ExternalImages
from cxr_platform.evidence.study_overlap import images_of_study
from cxr_platform.intake.candidate import Refusal
from cxr_platform.intake.layouts.collection import Collection, as_text, walk
from cxr_platform.intake.overrule import Overrule
from cxr_platform.intake.sources import Inventory, find_candidates
from cxr_platform.manifest.cache import DecodedCache, PixelReader, settings_key
from cxr_platform.manifest.decoding import DecodeTask, decode_new
from cxr_platform.manifest.folders import ManifestFolders
from cxr_platform.manifest.patient_ids import patient_salt
from cxr_platform.manifest.records import SelectedImage
from cxr_platform.manifest.selection import Selection, select_images
from cxr_platform.manifest.store import Manifest
from cxr_platform.progress import Progress
from cxr_platform.storage.files import write_errors


@dataclass(frozen=True, eq=False)
class ImageFolder:
    """The usable images of `data`, and `excluded`: source path → reason and detail of every other file.

    `synthetic` is True if the folder has phantoms.
    """

    data: Path
    images: ExternalImages
    excluded: Mapping[str, Refusal]
    synthetic: bool

    @property
    def reasons(self) -> Mapping[str, int]:
        """Number of excluded files by reason."""
        return Counter(refusal.reason for refusal in self.excluded.values())

    def check_images(self) -> None:
        """Raise `NotPossible` if there is no usable image, with the number of files by reason."""
        if not len(self.images.facts):
            raise NotPossible(
                f"Expected readable images in {self.data} that are not in the study.",
                received=", ".join(f"{n} {reason}" for reason, n in self.reasons.items()) or "an empty folder",
                advice="Give a folder with other images.",
            )


def read_image_folder(
    data: Path, manifest: Manifest, profile: Profile, work: Path, progress: Progress, *, unlabelled: bool = False
) -> ImageFolder:
    """Return the usable images of `data`, read with the settings of `manifest`; `work`.cache keeps decoded images.

    With `unlabelled` no image has a class, whatever the names of the folders. Images of the study are excluded: the
    same file or pixels, near copies, images of its patients, and whole groups with one of these. There may be no
    usable image (see `check_images`).

    Raise `SourceError` for an absent folder or an unknown layout.
    """
    intake = manifest.info.config
    profile = replace(profile, intake=intake)
    inventory = _external_candidates(data, profile, unlabelled)
    selection, pixels = _select(inventory, profile, work, progress)
    overlap = images_of_study(selection, pixels, manifest, intake.selection.near_duplicate_distance)
    kept = [row for row in range(len(selection.images)) if row not in overlap]
    excluded = {item.source_path: item.refusal for item in selection.excluded}
    excluded |= {selection.images[row].candidate.source_path: refusal for row, refusal in overlap.items()}
    selected, groups = [selection.images[row] for row in kept], [selection.groups[row] for row in kept]
    images = ExternalImages(_facts(selected, groups), pixels.images([image.decoded for image in selected]))
    return ImageFolder(data, images, excluded, synthetic=bool(inventory.synthetic_sources))


def _external_candidates(data: Path, profile: Profile, unlabelled: bool) -> Inventory:
    """Give all candidates the role external, so that none is sampled, capped or put into a fold."""
    if unlabelled:
        inventory = _without_labels(data)
    else:
        try:
            inventory = find_candidates(data, profile.intake.selection)
        except SourceError as error:
            error.advice += " For images without a class use --unlabelled."
            raise
    external = [replace(candidate, role="external") for candidate in inventory.candidates]
    return replace(inventory, candidates=external)


def _without_labels(data: Path) -> Inventory:
    if not data.is_dir():
        raise SourceError(f"Expected a folder of images at {data}.", received="a file" if data.exists() else "nothing")
    folder = data.resolve()
    collection = Collection(as_text(folder.name), folder, walk(folder))
    return Inventory([collection.candidate(file) for file in collection.files])


def _select(inventory: Inventory, profile: Profile, work: Path, progress: Progress) -> tuple[Selection, PixelReader]:
    """Decode and select as `manifest.build` does, without overrules."""
    intake, salt = profile.intake, patient_salt()
    with write_errors(work):
        cache = DecodedCache(ManifestFolders(work).cache, settings_key(intake, salt))
    decoded = decode_new(inventory.candidates, cache, DecodeTask(intake, salt, cache.folder), progress)
    with write_errors(work):
        cache.prune(decoded.values())  # of files that are gone
    pixels = PixelReader(cache, intake.decoding.image_size)
    selection = select_images(inventory.candidates, decoded, Overrule(), profile, salt, pixels, cache.folder, progress)
    return selection, pixels


def _facts(selected: Sequence[SelectedImage], groups: Sequence[str]) -> pa.Table:
    columns = {
        "image_id": [image.image_id for image in selected],
        "source_path": [image.candidate.source_path for image in selected],
        "group_id": list(groups),
        "source": [image.candidate.source for image in selected],
        "label": [image.candidate.label for image in selected],
    }
    table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    for side in SIDES:
        lengths = [getattr(image.facts, side) for image in selected]
        table = table.append_column(side, pa.array(lengths, pa.int32()))
    return table

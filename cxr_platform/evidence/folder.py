"""A folder of images that no study has seen, through the same intake as the study's own: decoded, judged, grouped."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from cxr_platform.config import Profile
from cxr_platform.errors import NotPossible, SourceError
from cxr_platform.evidence.external import UnseenImages
from cxr_platform.evidence.study_overlap import seen_images
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
class Folder:
    """The images that are scored, and `excluded`: source path → reason and detail of every other file.

    `synthetic` says that images of the folder were drawn.
    """

    images: UnseenImages
    excluded: Mapping[str, Refusal]
    synthetic: bool

    @property
    def reasons(self) -> Mapping[str, int]:
        """Reason → number of files."""
        return Counter(refusal.reason for refusal in self.excluded.values())


def read_folder(
    data: Path, manifest: Manifest, profile: Profile, work: Path, progress: Progress, *, unlabelled: bool = False
) -> Folder:
    """The usable images of `data`, taken in as those of `manifest` were; decoded ones are kept in `work`.cache.

    With `unlabelled` every file is an image without a class, whatever the folders are called. Images of the study are
    excluded: the same file, the same pixels, a near copy, the same patient, and whatever is of one group with these.

    Raises `SourceError` for a folder that is absent or whose layout is not known, `NotPossible` where no image is left.
    """
    intake = manifest.info.config
    profile = replace(profile, intake=intake)
    found = _find(data, profile, unlabelled)
    choice, pixels = _choose(found, profile, work, progress)
    seen = seen_images(choice, pixels, manifest, intake.selection.near_duplicate_distance)
    kept = [row for row in range(len(choice.images)) if row not in seen]
    excluded = {item.source_path: item.refusal for item in choice.excluded}
    excluded |= {choice.images[row].candidate.source_path: refusal for row, refusal in seen.items()}
    if not kept:
        raise _nothing_left(data, excluded)
    taken, groups = [choice.images[row] for row in kept], [choice.groups[row] for row in kept]
    images = UnseenImages(_facts(taken, groups), pixels.images([image.decoded for image in taken]))
    return Folder(images, excluded, synthetic=bool(found.synthetic_sources))


def _find(data: Path, profile: Profile, unlabelled: bool) -> Inventory:
    """All of role external: none of them is drawn, capped or put into a fold."""
    if unlabelled:
        found = _without_labels(data)
    else:
        try:
            found = find_candidates(data, profile.intake.selection)
        except SourceError as error:
            error.advice += " Images without a class are scored with --unlabelled."
            raise
    return replace(found, candidates=[replace(candidate, role="external") for candidate in found.candidates])


def _without_labels(data: Path) -> Inventory:
    if not data.is_dir():
        raise SourceError(f"Expected a folder of images at {data}.", received="a file" if data.exists() else "nothing")
    folder = data.resolve()
    collection = Collection(as_text(folder.name), folder, walk(folder))
    return Inventory([collection.candidate(file) for file in collection.files])


def _choose(found: Inventory, profile: Profile, work: Path, progress: Progress) -> tuple[Selection, PixelReader]:
    """As `manifest.build` does, but without lists that overrule."""
    intake, salt = profile.intake, patient_salt()
    with write_errors(work):
        cache = DecodedCache(ManifestFolders(work).cache, settings_key(intake.decoding, salt))
    decoded = decode_new(found.candidates, cache, DecodeTask(intake, salt, cache.folder), progress)
    with write_errors(work):
        cache.prune(decoded.values())  # of the folder as it was before
    pixels = PixelReader(cache, intake.decoding.image_size)
    return select_images(found.candidates, decoded, Overrule(), profile, salt, pixels, cache.folder), pixels


def _nothing_left(data: Path, excluded: Mapping[str, Refusal]) -> NotPossible:
    reasons = Counter(refusal.reason for refusal in excluded.values())
    return NotPossible(
        f"Expected images in {data} that can be read and that the study has not seen.",
        received=", ".join(f"{n} {reason}" for reason, n in reasons.items()) or "an empty folder",
        advice="Give a folder with other images.",
    )


def _facts(taken: Sequence[SelectedImage], groups: Sequence[str]) -> pa.Table:
    columns = {
        "image_id": [image.image_id for image in taken],
        "group_id": list(groups),
        "source": [image.candidate.source for image in taken],
        "label": [image.candidate.label for image in taken],
    }
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})

"""Folders of images that are not in a study, with the intake of the study's own: decoded, checked and grouped.

An image whose finding is none of the seven classes is kept without a class: all images of an `outside` source, and of
other collections those whose table states such a finding.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from cxr_platform.config import Profile, SelectionConfig
from cxr_platform.errors import ConfigError, NotPossible, SourceError
from cxr_platform.evidence.external_images import SIDES, ExternalImages
from cxr_platform.evidence.study_overlap import images_of_study
from cxr_platform.intake.candidate import Candidate, Refusal
from cxr_platform.intake.data_folders import DataPaths, data_paths, merged, read_data_folders
from cxr_platform.intake.layouts import collection as layout
from cxr_platform.intake.overrule import Overrule
from cxr_platform.intake.sources import Inventory
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

    `origins` has the hospital or publication of those sources of which it is stated. `synthetic` is True if there are
    phantoms.
    """

    data: tuple[Path, ...]
    images: ExternalImages
    excluded: Mapping[str, Refusal]
    origins: Mapping[str, str]
    synthetic: bool

    @property
    def reasons(self) -> Mapping[str, int]:
        """Number of excluded files by reason."""
        return Counter(refusal.reason for refusal in self.excluded.values())

    def check_images(self) -> None:
        """Raise `NotPossible` if there is no usable image, with the number of files by reason."""
        if not len(self.images.facts):
            raise NotPossible(
                f"Expected readable images in {' or '.join(map(str, self.data))} that are not in the study.",
                received=", ".join(f"{n} {reason}" for reason, n in self.reasons.items()) or "an empty folder",
                advice="Give a folder with other images.",
            )


def read_image_folder(
    data: DataPaths,
    manifest: Manifest,
    profile: Profile,
    work: Path,
    progress: Progress,
    *,
    outside: Collection[str] = (),
    unlabelled: bool = False,
) -> ImageFolder:
    """Return the usable images of `data`, read with the settings of `manifest`; `work`.cache keeps decoded images.

    `outside` names sources of none of the seven classes, as for a manifest. With `unlabelled` no image has a class,
    whatever the names of the folders. Images of the study are excluded: the same file or pixels, near and changed
    copies, images of its patients, and whole groups with one of these. There may be no usable image (`check_images`).

    Raise `SourceError` for an absent folder, an unknown layout or an unknown outside source, and `ConfigError` for data
    folders that overlap and for `outside` beside `unlabelled`.
    """
    # Which collections Normal and Pneumonia come from is a choice of images to train on.
    intake = replace(manifest.info.config, selection=replace(manifest.info.config.selection, classes="any"))
    profile = replace(profile, intake=intake)
    inventory = _external_candidates(data, profile.intake.selection, outside, unlabelled)
    selection, pixels = _select(inventory, profile, work, progress)
    overlap = images_of_study(selection, pixels, manifest, inventory.origins, progress)
    kept = [row for row in range(len(selection.images)) if row not in overlap]
    excluded = {item.source_path: item.refusal for item in selection.excluded}
    excluded |= {selection.images[row].candidate.source_path: refusal for row, refusal in overlap.items()}
    selected, groups = [selection.images[row] for row in kept], [selection.groups[row] for row in kept]
    images = ExternalImages(_facts(selected, groups), pixels.images([image.decoded for image in selected]))
    synthetic = bool(inventory.synthetic_sources)
    return ImageFolder(data_paths(data), images, excluded, inventory.origins, synthetic)


def _external_candidates(
    data: DataPaths, selection: SelectionConfig, outside: Collection[str], unlabelled: bool
) -> Inventory:
    """Return the candidates with roles by which none is sampled, capped or put into a fold."""
    if unlabelled and outside:
        raise ConfigError(
            "Expected --unlabelled, for images of unknown classes, or --outside, for images of none of the seven.",
            received=f"--unlabelled and --outside {','.join(outside)}",
            advice="Leave one of them out.",
        )
    if unlabelled:
        inventory = merged(read_data_folders(data, selection, find=_without_labels))
    else:
        try:
            inventory = merged(read_data_folders(data, selection, outside))
        except SourceError as error:
            if error.advice:  # on the layouts that are recognised
                error.advice += " For images without a class use --unlabelled, for images of other diseases --outside."
            raise
    return replace(inventory, candidates=list(map(_scored, inventory.candidates)))


def _scored(candidate: Candidate) -> Candidate:
    """Return a candidate of a source that is only scored: outside the classes, or external."""
    if candidate.role == "outside":
        return candidate
    if candidate.other_finding:
        return replace(candidate, role="outside", refusal=None)
    return replace(candidate, role="external")


def _without_labels(data: Path, selection: SelectionConfig, outside: Collection[str]) -> Inventory:
    del selection, outside  # every file is an image without a class
    if not data.is_dir():
        raise SourceError(f"Expected a folder of images at {data}.", received="a file" if data.exists() else "nothing")
    folder = data.resolve()
    files = layout.walk(folder)
    collection = layout.Collection(layout.as_text(folder.name), folder, files)
    return Inventory([collection.candidate(file) for file in files], folders=(folder,))


def _select(inventory: Inventory, profile: Profile, work: Path, progress: Progress) -> tuple[Selection, PixelReader]:
    """Decode and select as `manifest.build` does, without overrules."""
    intake, salt = profile.intake, patient_salt()
    with write_errors(work):
        cache = DecodedCache(ManifestFolders(work).cache, settings_key(intake, salt))
    decoded = decode_new(inventory.candidates, cache, DecodeTask(intake, salt, cache.folder), progress)
    with write_errors(work):
        cache.prune(decoded.values())  # of files that are gone
    pixels = PixelReader(cache, intake.decoding.image_size)
    selection = select_images(inventory, decoded, Overrule(), profile, salt, pixels, cache.folder, progress)
    return selection, pixels


def _facts(selected: Sequence[SelectedImage], groups: Sequence[str]) -> pa.Table:
    columns = {
        "image_id": [image.image_id for image in selected],
        "source_path": [image.candidate.source_path for image in selected],
        "group_id": list(groups),
        "source": [image.candidate.source for image in selected],
        "label": [image.candidate.label for image in selected],
        "finding": [image.candidate.finding if image.is_outside else None for image in selected],
    }
    table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    for side in SIDES:
        lengths = [getattr(image.facts, side) for image in selected]
        table = table.append_column(side, pa.array(lengths, pa.int32()))
    return table

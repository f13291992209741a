"""Overlap of a folder with a study: the same file or pixels, near copies, and images of the same patients."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from cxr_platform.evaluation.predictions import Array
from cxr_platform.intake.candidate import Refusal
from cxr_platform.intake.duplicates import SAME_IMAGE_AGREEMENT, Pairs, detail_agreement, fine_detail, near_pairs
from cxr_platform.manifest.cache import PixelReader
from cxr_platform.manifest.records import SelectedImage
from cxr_platform.manifest.schema import PIXELS, pixels_to_numpy
from cxr_platform.manifest.selection import Selection
from cxr_platform.manifest.store import Manifest

IN_STUDY = "in-study"
HASHES = ("file_sha256", "pixel_sha256")
IN_FOLDS = ("study", "contrast")


def images_of_study(
    selection: Selection, pixels: PixelReader, manifest: Manifest, near_distance: int
) -> dict[int, Refusal]:
    """Return position in `selection.images` → reason for every image that overlaps with the study.

    `pixels` reads the folder's images. An image excludes its whole group (`manifest.grouping`), because the networks
    were trained on the patient. External and outside images of the manifest are not part of the study.
    """
    copies = near_copies(selection.images, pixels, manifest, near_distance)
    refusals = {row: Refusal(IN_STUDY, f"a copy of {path} of the study") for row, path in copies.items()}
    known = _known(manifest)
    for row, (image, patient) in enumerate(zip(selection.images, selection.patients, strict=True)):
        refusal = _same(image, patient, known)
        if refusal is not None:
            refusals[row] = refusal
    first = {
        selection.groups[row]: selection.images[row].candidate.source_path for row in sorted(refusals, reverse=True)
    }
    return {
        row: refusals.get(row) or Refusal(IN_STUDY, f"in one group with {first[group]}, which is in the study")
        for row, group in enumerate(selection.groups)
        if group in first
    }


def near_copies(
    images: Sequence[SelectedImage], pixels: PixelReader, manifest: Manifest, max_distance: int
) -> dict[int, str]:
    """Return position in `images` → source_path of a near copy in the study.

    As in `manifest.grouping`, a near copy has a hash within `max_distance` bits and the same fine detail.
    """
    facts = manifest.table(["source_path", "phash", "role"]).to_pydict()
    study = np.flatnonzero(np.isin(facts["role"], IN_FOLDS))
    hashes = [int(facts["phash"][row], 16) for row in study] + [int(image.facts.phash, 16) for image in images]
    pairs = near_pairs(np.array(hashes, np.uint64), max_distance)
    across = pairs[(pairs[:, 0] < len(study)) & (pairs[:, 1] >= len(study))]
    nominated = np.stack([study[across[:, 0]], across[:, 1] - len(study)], axis=1)
    return {new: facts["source_path"][row] for row, new in _confirmed(nominated, images, pixels, manifest)}


def _confirmed(
    pairs: Pairs, images: Sequence[SelectedImage], pixels: PixelReader, manifest: Manifest
) -> Iterator[tuple[int, int]]:
    """Yield those `pairs` (row of the manifest, position in `images`) that have the same fine detail."""
    in_order = sorted(np.unique(pairs[:, 1]).tolist(), key=lambda new: images[new].decoded.shard)
    details = {new: fine_detail(pixels.images([images[new].decoded])[0]) for new in in_order}
    for row, image in _images(manifest, np.unique(pairs[:, 0])):
        detail = fine_detail(image)
        for new in pairs[pairs[:, 0] == row, 1].tolist():
            if detail_agreement(detail, details[new]) >= SAME_IMAGE_AGREEMENT:
                yield row, new


def _images(manifest: Manifest, rows: Array) -> Iterator[tuple[int, Array]]:
    """Yield (row, image (S, S) uint8) for `rows` of the manifest, with one batch of images in memory at a time."""
    start = 0
    for batch in manifest.batches([PIXELS]) if len(rows) else ():
        mine = rows[(rows >= start) & (rows < start + batch.num_rows)]
        yield from zip(mine.tolist(), pixels_to_numpy(batch.take(mine - start)[PIXELS]), strict=True)
        start += batch.num_rows


def _known(manifest: Manifest) -> dict[str, set[str]]:
    """Return the hashes and patients of the images in the folds."""
    table = manifest.table([*HASHES, "patient_id", "role"]).to_pandas()
    study = table[table["role"].isin(IN_FOLDS)]
    return {name: set(study[name].dropna()) for name in (*HASHES, "patient_id")}


def _same(image: SelectedImage, patient: str | None, known: Mapping[str, set[str]]) -> Refusal | None:
    if image.facts.file_sha256 in known["file_sha256"] or image.facts.pixel_sha256 in known["pixel_sha256"]:
        return Refusal(IN_STUDY, "an image of the study, which its networks were trained on")
    if patient in known["patient_id"]:
        return Refusal(IN_STUDY, "of a patient of the study")
    return None

"""Which images of a folder a study has seen: the same file, the same pixels, a near copy, an image of the same patient."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from cxr_platform.intake.candidate import Refusal
from cxr_platform.intake.duplicates import SAME_IMAGE_AGREEMENT, Pairs, detail_agreement, fine_detail, near_pairs
from cxr_platform.manifest.cache import PixelReader
from cxr_platform.manifest.records import SelectedImage
from cxr_platform.manifest.schema import PIXELS, pixels_to_numpy
from cxr_platform.manifest.selection import Selection
from cxr_platform.manifest.store import Manifest

IN_STUDY = "in-study"
HASHES = ("file_sha256", "pixel_sha256")


def seen_images(choice: Selection, pixels: PixelReader, manifest: Manifest, near_distance: int) -> dict[int, Refusal]:
    """Position in `choice.images` → how the study knows the image; `pixels` are those of the folder's images.

    With an image goes its whole group (`manifest.grouping`): where one image of a patient was trained on, so was the
    patient. External images of the manifest were not trained on and count as unseen.
    """
    copies = near_copies(choice.images, pixels, manifest, near_distance)
    found = {row: Refusal(IN_STUDY, f"a copy of {path} of the study") for row, path in copies.items()}
    known = _known(manifest)
    for row, (image, patient) in enumerate(zip(choice.images, choice.patients, strict=True)):
        refusal = _same(image, patient, known)
        if refusal is not None:
            found[row] = refusal
    first = {choice.groups[row]: choice.images[row].candidate.source_path for row in sorted(found, reverse=True)}
    return {
        row: found.get(row) or Refusal(IN_STUDY, f"of one group with {first[group]}, which the study has seen")
        for row, group in enumerate(choice.groups)
        if group in first
    }


def near_copies(
    taken: Sequence[SelectedImage], pixels: PixelReader, manifest: Manifest, max_distance: int
) -> dict[int, str]:
    """Position in `taken` → source_path of an image of the study with a hash within `max_distance` bits and the same
    fine detail, as `manifest.grouping` has it."""
    facts = manifest.table(["source_path", "phash", "role"]).to_pydict()
    study = np.flatnonzero(np.array(facts["role"]) == "study")
    hashes = [int(facts["phash"][row], 16) for row in study] + [int(image.facts.phash, 16) for image in taken]
    pairs = near_pairs(np.array(hashes, np.uint64), max_distance)
    across = pairs[(pairs[:, 0] < len(study)) & (pairs[:, 1] >= len(study))]
    nominated = np.stack([study[across[:, 0]], across[:, 1] - len(study)], axis=1)
    return {new: facts["source_path"][row] for row, new in _confirmed(nominated, taken, pixels, manifest)}


def _confirmed(
    pairs: Pairs, taken: Sequence[SelectedImage], pixels: PixelReader, manifest: Manifest
) -> Iterator[tuple[int, int]]:
    """Those of the `pairs` (row of the manifest, position in `taken`) that are one image."""
    in_order = sorted(np.unique(pairs[:, 1]).tolist(), key=lambda new: taken[new].decoded.shard)
    details = {new: fine_detail(pixels.images([taken[new].decoded])[0]) for new in in_order}
    for row, image in _images(manifest, np.unique(pairs[:, 0])):
        detail = fine_detail(image)
        for new in pairs[pairs[:, 0] == row, 1].tolist():
            if detail_agreement(detail, details[new]) >= SAME_IMAGE_AGREEMENT:
                yield row, new


def _images(manifest: Manifest, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(row, image (S, S) uint8) for `rows` of the manifest, of which a few images at a time are in memory."""
    start = 0
    for batch in manifest.batches([PIXELS]) if len(rows) else ():
        mine = rows[(rows >= start) & (rows < start + batch.num_rows)]
        yield from zip(mine.tolist(), pixels_to_numpy(batch.take(mine - start)[PIXELS]), strict=True)
        start += batch.num_rows


def _known(manifest: Manifest) -> dict[str, set[str]]:
    """The hashes and patients of the images in the folds."""
    table = manifest.table([*HASHES, "patient_id", "role"]).to_pandas()
    study = table[table["role"] == "study"]
    return {name: set(study[name].dropna()) for name in (*HASHES, "patient_id")}


def _same(image: SelectedImage, patient: str | None, known: Mapping[str, set[str]]) -> Refusal | None:
    if image.facts.file_sha256 in known["file_sha256"] or image.facts.pixel_sha256 in known["pixel_sha256"]:
        return Refusal(IN_STUDY, "an image of the study, which its networks were trained on")
    if patient in known["patient_id"]:
        return Refusal(IN_STUDY, "of a patient of the study")
    return None

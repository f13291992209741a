"""Overlap of a folder with a study: the same file or pixels, near and changed copies, images of the same patients."""

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from cxr_platform.evaluation.predictions import Array
from cxr_platform.intake.candidate import Refusal
from cxr_platform.intake.duplicates import SAME_IMAGE_AGREEMENT, Pairs, detail_agreement, fine_detail, near_pairs
from cxr_platform.intake.keypoints import find_keypoints
from cxr_platform.intake.letterbox import without_padding
from cxr_platform.manifest.cache import PixelReader
from cxr_platform.manifest.grouping import StoredKeypoints, content_of, first_of_each
from cxr_platform.manifest.patient_ids import key_space, patient_salt
from cxr_platform.manifest.patients import header_patient, stated_patient
from cxr_platform.manifest.records import SelectedImage
from cxr_platform.manifest.schema import PIXELS, pixels_to_numpy
from cxr_platform.manifest.selection import Selection
from cxr_platform.manifest.store import Manifest
from cxr_platform.progress import NoProgress, Progress

IN_STUDY = "in-study"
HASHES = ("file_sha256", "pixel_sha256")
IN_FOLDS = ("study", "contrast")
ROWS_PER_STEP = 128
"""Images of the study between two steps of the progress."""


def images_of_study(
    selection: Selection,
    pixels: PixelReader,
    manifest: Manifest,
    origins: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> dict[int, Refusal]:
    """Return position in `selection.images` → reason for every image that overlaps with the study.

    `pixels` reads the folder's images, `origins` has the origins of its sources that have one stated: sources of one
    origin share their patients. Copies are sought as for the manifest. An image excludes its whole group
    (`manifest.grouping`), because the networks were trained on the patient. External and outside images of the manifest
    are not part of the study.
    """
    images, config = selection.images, manifest.info.config.selection
    if not images:  # the copies of none need no look at the study
        return {}
    refusals: dict[int, Refusal] = {}
    if config.find_crops:
        changed = changed_copies(images, pixels, manifest, progress or NoProgress())
        refusals = {
            row: Refusal(IN_STUDY, f"a crop or another changed copy of {path} of the study")
            for row, path in changed.items()
        }
    copies = near_copies(images, pixels, manifest, config.near_duplicate_distance)
    refusals |= {row: Refusal(IN_STUDY, f"a copy of {path} of the study") for row, path in copies.items()}
    known, spaces = _known(manifest), _key_spaces(manifest, images, origins or {})
    for row, (image, patient) in enumerate(zip(images, selection.patients, strict=True)):
        refusal = _same(image, _patient_in(image, patient, spaces[image.candidate.source]), known)
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


def changed_copies(
    images: Sequence[SelectedImage], pixels: PixelReader, manifest: Manifest, progress: Progress
) -> dict[int, str]:
    """Return position in `images` → source_path of an image of the study, if one of the two is a changed copy.

    These are crops, and bordered, mirrored or inverted copies, as `manifest.grouping` finds them. Keypoints of the
    study's images are sought here, as a manifest has none: 6 ms and 13 kB of memory for each.
    """
    # faiss is loaded only where crops are sought.
    from cxr_platform.intake.local_features import MIN_AGREEMENT, aligned_agreement, nominate

    facts = manifest.table(["source_path", "pixel_sha256", "role", "width", "height"]).to_pydict()
    study = np.flatnonzero(np.isin(facts["role"], IN_FOLDS))
    study = study[first_of_each([facts["pixel_sha256"][row] for row in study])]
    new = first_of_each([image.facts.pixel_sha256 for image in images])

    def of_study(rows: Array) -> Iterator[tuple[int, Array]]:
        for row, image in _images(manifest, rows):
            yield row, without_padding(image, facts["width"][row], facts["height"][row])

    keypoints = list(StoredKeypoints([images[position] for position in new], pixels))
    for number, (_, whole) in enumerate(of_study(study), start=1):
        keypoints.append(find_keypoints(whole))
        if number % ROWS_PER_STEP == 0 or number == len(study):
            progress.step("Comparing with the study", number, len(study))
    count, found = len(new), {}
    nominated = [
        n for n in nominate(keypoints, progress=progress, queries=count) if (n.first < count) != (n.second < count)
    ]
    row_of = {n: int(study[max(n.first, n.second) - count]) for n in nominated}
    contents = dict(of_study(np.array(sorted(set(row_of.values())), int)))
    for n, row in row_of.items():
        image = images[new[min(n.first, n.second)]]
        whole = content_of(image, pixels)
        first, second = (whole, contents[row]) if n.first < count else (contents[row], whole)
        if aligned_agreement(first, second, n) >= MIN_AGREEMENT:
            found[new[min(n.first, n.second)]] = facts["source_path"][row]
    return found


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


def _key_spaces(manifest: Manifest, images: Sequence[SelectedImage], origins: Mapping[str, str]) -> dict[str, set[str]]:
    """Return in which key spaces the manifest may have the patients of each source of `images`.

    These are the source itself, its origin here and there, which only the manifest may state, and all sources of its
    origin: manifests of older platforms have patients by source.
    """
    of_study = manifest.info.origins
    return {
        source: {
            *(source, key_space(source, origins), key_space(source, of_study)),
            *(other for other in of_study if of_study[other] == origins.get(source)),
        }
        for source in {image.candidate.source for image in images}
    }


def _patient_in(image: SelectedImage, patient: str | None, spaces: Collection[str]) -> set[str]:
    """Return the hashes that the patient of an image has here and in further key `spaces`; empty without a patient."""
    if patient is None:
        return set()
    elsewhere = {of(image, patient_salt(), space) for of in (stated_patient, header_patient) for space in spaces}
    return {patient, *(name for name in elsewhere if name)}


def _same(image: SelectedImage, patients: set[str], known: Mapping[str, set[str]]) -> Refusal | None:
    if image.facts.file_sha256 in known["file_sha256"] or image.facts.pixel_sha256 in known["pixel_sha256"]:
        return Refusal(IN_STUDY, "an image of the study, which its networks were trained on")
    if not patients.isdisjoint(known["patient_id"]):
        return Refusal(IN_STUDY, "of a patient of the study")
    return None

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from cxr_platform.config import SelectionConfig
from cxr_platform.errors import StorageError
from cxr_platform.intake.duplicates import phash
from cxr_platform.intake.letterbox import letterbox
from cxr_platform.intake.phantoms.image import ImageKey, draw_image
from cxr_platform.manifest import grouping
from cxr_platform.manifest.cache import DecodedCache, PixelReader
from cxr_platform.manifest.grouping import CopySearch, changed_copies, group_images, near_duplicates, related_groups
from cxr_platform.manifest.records import SelectedImage
from tests.manifest.builders import brighter_copy, candidate, image, store
from tests.recorded_progress import RecordedProgress


@pytest.fixture
def cache(tmp_path: Path) -> DecodedCache:
    return DecodedCache(tmp_path, "key")


def take(cache: DecodedCache, images: dict[str, np.ndarray]) -> list[SelectedImage]:
    return [SelectedImage(candidate(record.key.source_path), record) for record in store(cache, images)]


def test_near_duplicates_are_confirmed_on_their_detail_not_by_their_hash_alone(cache: DecodedCache) -> None:
    images = {"s/0.png": image(0), "s/1.png": image(1), "s/2.png": image(2), "s/0-copy.png": brighter_copy(image(0))}
    taken = take(cache, images)
    every = 64  # bits: the hash nominates every pair
    assert near_duplicates(taken, every, PixelReader(cache, 200)).tolist() == [[0, 3]]


def test_tiles_give_the_same_pairs_as_one_piece(cache: DecodedCache, monkeypatch: pytest.MonkeyPatch) -> None:
    images = {f"s/{n}.png": image(n) for n in range(5)} | {f"s/{n}-copy.png": brighter_copy(image(n)) for n in range(5)}
    taken, pixels = take(cache, images), PixelReader(cache, 200)
    whole = near_duplicates(taken, 64, pixels)
    monkeypatch.setattr(grouping, "TILE_IMAGES", 2)
    progress = RecordedProgress()
    tiled = near_duplicates(taken, 64, pixels, progress=progress)
    assert sorted(tiled.tolist()) == whole.tolist() == [[n, n + 5] for n in range(5)]
    assert {(title, total) for title, _, total in progress.steps} == {("Comparing likely copies", 45)}
    assert progress.steps[-1][1] == 45


def test_details_are_in_the_given_folder_and_a_full_disk_is_an_error(
    cache: DecodedCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def full(prefix: str, dir: Path) -> IO[bytes]:
        asked.append(dir)
        return Path("/dev/full").open("r+b", buffering=0)

    taken = take(cache, {"s/0.png": image(0), "s/1.png": image(1)})
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(StorageError, match=rf"able to write {tmp_path / 'build'}.*No space left"):
        near_duplicates(taken, 64, PixelReader(cache, 200), tmp_path / "build")
    assert asked == [tmp_path / "build"]


def test_crops_and_mirrored_copies_are_joined_where_they_are_sought(cache: DecodedCache) -> None:
    originals = [(255 * draw_image(ImageKey(7, "Edema", n, 0), 320).picture).astype(np.uint8) for n in range(4)]
    crop, mirrored = originals[0][40:-30, 30:-30], np.ascontiguousarray(originals[1][:, ::-1])
    files = [*originals, crop, mirrored]
    records = store(cache, {f"s/{n}.png": letterbox(pixels, 200).pixels for n, pixels in enumerate(files)})
    sizes = {f"s/{n}.png": pixels.shape for n, pixels in enumerate(files)}
    taken = [
        SelectedImage(
            candidate(record.key.source_path),
            record._replace(facts=replace(record.facts, height=size[0], width=size[1])),
        )
        for record in records
        if record.facts is not None and (size := sizes[record.key.source_path])
    ]
    pixels = PixelReader(cache, 200)
    assert changed_copies(taken, pixels).tolist() == [[0, 4], [1, 5]]
    assert len(set(group_images(taken, [[None] * 6], CopySearch(pixels, 8, find_crops=False)))) == 6
    sought = group_images(taken, [[None] * 6], CopySearch(pixels, 8))
    assert (sought[4], sought[5]) == (sought[0], sought[1])
    assert len(set(sought)) == 4
    related = related_groups(taken[4:], taken[:4], list("ABCD"), [[None] * 6], CopySearch(pixels, 8))
    assert related == [(taken[4].image_id, frozenset("A")), (taken[5].image_id, frozenset("B"))]


def test_groups_join_patients_and_copies_transitively(cache: DecodedCache) -> None:
    images = {"s/a.png": image(1), "s/b.png": image(2), "s/c.png": brighter_copy(image(2)), "s/d.png": image(3)}
    taken = take(cache, images)
    groups = group_images(taken, [["p1", "p1", None, None]], CopySearch(PixelReader(cache, 200), 4))
    assert groups[0] == groups[1] == groups[2] == min(image.image_id for image in taken[:3])
    assert groups[3] == taken[3].image_id


def test_added_images_are_related_to_groups_that_they_do_not_change(cache: DecodedCache) -> None:
    first = image(1)
    old = take(cache, {"s/a.png": first, "s/b.png": image(2), "s/c.png": image(3)})
    added = take(
        cache, {"s/d.png": brighter_copy(first), "s/e.png": image(4), "s/f.png": image(5), "s/g.png": image(6)}
    )
    patients = [[None, "p", "p", None, None, "p", None]]  # of the added images, then of the others
    pixels = PixelReader(cache, 200)
    related = related_groups(added, old, ["A", "B", "C"], patients, CopySearch(pixels, 8))
    own = min(added[1].image_id, added[2].image_id)
    assert related == [
        (added[0].image_id, frozenset({"A"})),
        (own, frozenset({"B"})),
        (own, frozenset({"B"})),
        (added[3].image_id, frozenset()),
    ]


def test_a_cropped_and_darkened_copy_of_a_phantom_is_in_the_group_of_its_original(cache: DecodedCache) -> None:
    picture = (255 * draw_image(ImageKey(2020, "Normal", 2, 0), 400).picture).astype(np.uint8)
    cropped = (0.6 * picture[8:-4, 4:-8]).astype(np.uint8)
    images = {f"s/{n}.png": letterbox(pixels, 200).pixels for n, pixels in enumerate((picture, cropped, image(1)))}
    first, second = (phash(images[f"s/{n}.png"]) for n in (0, 1))
    assert 4 < (int(first) ^ int(second)).bit_count() <= SelectionConfig().near_duplicate_distance
    distance = SelectionConfig().near_duplicate_distance
    groups = group_images(take(cache, images), [[None] * 3], CopySearch(PixelReader(cache, 200), distance))
    assert groups[0] == groups[1] != groups[2]


def test_images_with_either_of_a_patient_s_identifiers_are_one_group(cache: DecodedCache) -> None:
    taken = take(cache, {f"s/{n}.png": image(n) for n in range(5)})
    of_collection, of_header = ["p1", None, "p1", "p2", None], ["h1", "h1", None, None, "h2"]
    groups = group_images(taken, [of_collection, of_header], CopySearch(PixelReader(cache, 200), 8))
    assert groups[0] == groups[1] == groups[2]
    assert len(set(groups)) == 3

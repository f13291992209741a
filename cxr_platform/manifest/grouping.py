"""Groups of images that stay in one fold: images of one patient and copies of one image, joined transitively."""

import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, overload

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from cxr_platform.intake.duplicates import (
    SAME_IMAGE_AGREEMENT,
    SIDE,
    Pairs,
    as_pairs,
    connected_groups,
    detail_agreement,
    fine_detail,
    near_pairs,
    pairs_of_equal,
)
from cxr_platform.intake.keypoints import Keypoints, find_keypoints
from cxr_platform.intake.letterbox import content_box, without_padding
from cxr_platform.manifest.cache import PixelReader
from cxr_platform.manifest.records import SelectedImage
from cxr_platform.progress import NoProgress, Progress
from cxr_platform.storage.files import write_errors

TILE_IMAGES = 1024  # per side of a tile; the details of both sides, 80 MB, are in memory
PAIRS_AT_ONCE = 256


@dataclass(frozen=True)
class CopySearch:
    """How copies of images are sought: by hashes that differ in `near_distance` bits, and with `find_crops` by content.

    `scratch` is a folder with room for 40 kB per image (default: that of temporary files).
    """

    pixels: PixelReader
    near_distance: int
    find_crops: bool = True
    scratch: Path | None = None
    progress: Progress | None = None

    def pairs(self, images: Sequence[SelectedImage], queries: int | None = None) -> Iterator[Pairs]:
        """Yield the near-duplicates and the changed copies, with `queries` only those of the first so many images."""
        yield near_duplicates(images, self.near_distance, self.pixels, self.scratch, self.progress, queries)
        if self.find_crops:
            yield changed_copies(images, self.pixels, self.progress, queries)


def group_images(
    selected: Sequence[SelectedImage], patients: Sequence[Sequence[str | None]], copies: CopySearch
) -> list[str]:
    """Return the group of each image, named by the smallest image_id in it.

    Images are linked by the same patient, the same file, the same pixels, or as near-duplicates, which the perceptual
    hash proposes and the fine detail of the images confirms; with `find_crops` also as changed copies. `patients` has a
    sequence for each kind of identifier of the images' patients, the collections' keys and those of DICOM headers,
    unique over sources. Raises `StorageError` if the folder for temporary files is full.
    """
    links = [*_equal(selected, patients), *copies.pairs(selected)]
    return _smallest_names(connected_groups(len(selected), np.concatenate(links)), selected)


def related_groups(
    added: Sequence[SelectedImage],
    selected: Sequence[SelectedImage],
    groups: Sequence[str],
    patients: Sequence[Sequence[str | None]],
    copies: CopySearch,
) -> list[tuple[str, frozenset[str]]]:
    """Return, for each of `added`, the name of its own group and the `groups` of `selected` with which it is linked.

    The links are those of `group_images`, also through further images of `added`; `patients` has the identifiers of
    `added`, then those of `selected`. The groups of `selected` stay as they are.
    """
    number, together = len(added), [*added, *selected]
    links = [
        *_equal(together, patients),
        pairs_of_equal([*[None] * number, *groups]),
        *copies.pairs(together, queries=number),
    ]
    parts = connected_groups(len(together), np.concatenate(links))
    names = _smallest_names(parts[:number], added)
    linked: defaultdict[int, set[str]] = defaultdict(set)
    for part, group in zip(parts[number:].tolist(), groups, strict=True):
        linked[part].add(group)
    return [(name, frozenset(linked[part])) for name, part in zip(names, parts[:number].tolist(), strict=True)]


def _equal(selected: Sequence[SelectedImage], patients: Sequence[Sequence[str | None]]) -> Iterator[Pairs]:
    """Yield the pairs of images of one patient, of one file and of the same pixels."""
    yield from map(pairs_of_equal, patients)
    yield pairs_of_equal([image.facts.file_sha256 for image in selected])
    yield pairs_of_equal([image.facts.pixel_sha256 for image in selected])


def _smallest_names(numbers: npt.NDArray[np.int64], images: Sequence[SelectedImage]) -> list[str]:
    """Return, for each image, the smallest image_id of those with the same number."""
    names: dict[int, str] = {}
    for number, image in zip(numbers.tolist(), images, strict=True):
        names[number] = min(names.get(number, image.image_id), image.image_id)
    return [names[number] for number in numbers.tolist()]


def near_duplicates(
    selected: Sequence[SelectedImage],
    max_distance: int,
    pixels: PixelReader,
    scratch: Path | None = None,
    progress: Progress | None = None,
    queries: int | None = None,
) -> Pairs:
    """Return the pairs (i, j) of images whose hashes differ in at most `max_distance` bits and whose detail agrees.

    With `queries` only pairs with one of the first `queries` images. Each processor compares a tile of pairs at a time.
    """
    first = first_of_each([image.facts.pixel_sha256 for image in selected])
    hashes = np.array([int(selected[i].facts.phash, 16) for i in first], np.uint64)
    nominated = np.array(first, np.int64)[near_pairs(hashes, max_distance)]
    if queries is not None:
        nominated = nominated[nominated.min(axis=1) < queries]
    images = np.unique(nominated)
    with _details(images, selected, pixels, scratch or Path(tempfile.gettempdir())) as details:
        confirmed, done = [as_pairs(())], 0
        tiles = list(_tiles(np.searchsorted(images, nominated)))
        # One thread of BLAS each: its products are so small that it would spend its time on sharing them out.
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(os.cpu_count()) as threads:
            for tile, same in zip(tiles, threads.map(partial(_confirmed, details=details), tiles), strict=True):
                confirmed.append(same)
                done += len(tile)
                (progress or NoProgress()).step("Comparing likely copies", done, len(nominated))
        pairs: Pairs = images[np.concatenate(confirmed)]
        return pairs


def changed_copies(
    selected: Sequence[SelectedImage],
    pixels: PixelReader,
    progress: Progress | None = None,
    queries: int | None = None,
) -> Pairs:
    """Return the pairs (i, j) of which one image is a crop, or a bordered, mirrored or inverted copy, of the other.

    With `queries` only pairs with one of the first `queries` images.
    """
    # faiss is loaded only where crops are sought.
    from cxr_platform.intake.local_features import MIN_AGREEMENT, aligned_agreement, nominate

    first = first_of_each([image.facts.pixel_sha256 for image in selected])
    stored = StoredKeypoints([selected[position] for position in first], pixels)
    sought = None if queries is None else sum(position < queries for position in first)

    def content(position: int) -> npt.NDArray[np.uint8]:
        return content_of(selected[first[position]], pixels)

    return as_pairs(
        (first[n.first], first[n.second])
        for n in nominate(stored, progress=progress, queries=sought)
        if aligned_agreement(content(n.first), content(n.second), n) >= MIN_AGREEMENT
    )


def content_of(image: SelectedImage, pixels: PixelReader) -> npt.NDArray[np.uint8]:
    """Return the pixels of an image without the padding, (h, w) uint8."""
    return without_padding(pixels.images([image.decoded])[0], image.facts.width, image.facts.height)


class StoredKeypoints(Sequence[Keypoints]):
    """The keypoints of images, read from the cache at each access."""

    def __init__(self, images: Sequence[SelectedImage], pixels: PixelReader) -> None:
        self._images, self._pixels = images, pixels

    def __len__(self) -> int:
        return len(self._images)

    @overload
    def __getitem__(self, position: int) -> Keypoints: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[Keypoints]: ...
    def __getitem__(self, position: int | slice) -> Keypoints | Sequence[Keypoints]:
        """Return the keypoints of one image, which are sought now if its shard was written without."""
        if isinstance(position, slice):
            return [self[number] for number in range(*position.indices(len(self)))]
        image = self._images[position]
        stored = self._pixels.keypoints(image.decoded)
        if stored is None:
            return find_keypoints(content_of(image, self._pixels))
        left, _, right, _ = content_box(image.facts.width, image.facts.height, self._pixels.size)
        return Keypoints.from_bytes(stored, right - left)


@contextmanager
def _details(
    images: npt.NDArray[np.int64], selected: Sequence[SelectedImage], pixels: PixelReader, scratch: Path
) -> Iterator["_Details"]:
    """Yield the fine detail of each of `images`, in a temporary file, as 40 kB per image may not fit into memory."""
    held = [selected[image] for image in images.tolist()]
    with write_errors(scratch), tempfile.TemporaryFile(prefix="cxr-details-", dir=scratch) as file:
        details = _Details(file)
        for row in sorted(range(len(held)), key=lambda row: held[row].decoded.shard):
            details.write(row, fine_detail(pixels.images([held[row].decoded])[0]))
        file.flush()
        yield details


class _Details:
    """Spectra (S, S/2 + 1) complex64 by row number, in a file."""

    shape = (SIDE, SIDE // 2 + 1)
    size = SIDE * (SIDE // 2 + 1) * np.dtype(np.complex64).itemsize

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, row: int, detail: npt.NDArray[np.complex64]) -> None:
        self._file.seek(row * self.size)
        self._file.write(detail.tobytes())

    def read(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.complex64]:
        """Return complex64 (len(rows), S, S/2 + 1)."""
        details = np.empty((len(rows), *self.shape), np.complex64)
        for detail, row in zip(details, rows.tolist(), strict=True):
            content = os.pread(self._file.fileno(), self.size, row * self.size)  # no place that threads would share
            detail[:] = np.frombuffer(content, np.complex64).reshape(self.shape)
        return details


def _confirmed(tile: Pairs, details: _Details) -> Pairs:
    rows, position = np.unique(tile, return_inverse=True)
    held, position = details.read(rows), position.reshape(-1, 2)
    agreement = [
        detail_agreement(held[part[:, 0]], held[part[:, 1]])
        for part in np.split(position, range(PAIRS_AT_ONCE, len(position), PAIRS_AT_ONCE))
    ]
    return tile[np.concatenate(agreement) >= SAME_IMAGE_AGREEMENT]


def _tiles(pairs: Pairs) -> Iterator[Pairs]:
    """Yield the pairs in portions of at most 2 × TILE_IMAGES images each."""
    blocks = pairs // TILE_IMAGES
    order = np.lexsort((blocks[:, 1], blocks[:, 0]))
    ends = np.flatnonzero(np.any(np.diff(blocks[order], axis=0), axis=1)) + 1
    yield from (tile for tile in np.split(pairs[order], ends) if len(tile))


def first_of_each(keys: Sequence[str]) -> list[int]:
    """Return the position of the first of each of the different keys."""
    first: dict[str, int] = {}
    for position, key in enumerate(keys):
        first.setdefault(key, position)
    return list(first.values())

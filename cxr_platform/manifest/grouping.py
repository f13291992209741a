"""The groups that stay on one side of a fold: films of one patient, copies of one film, and whatever these join."""

from collections.abc import Iterator, Sequence

import numpy as np

from cxr_platform.intake.duplicates import (
    SAME_FILM_AGREEMENT,
    Pairs,
    as_pairs,
    connected_groups,
    detail_agreement,
    fine_detail,
    near_pairs,
    pairs_of_equal,
)
from cxr_platform.manifest.cache import PixelReader
from cxr_platform.manifest.selection import Taken

TILE_FILMS = 1024  # films a side of a tile; the details of two sides, 80 MB, are in memory


def group_films(
    taken: Sequence[Taken], patients: Sequence[str | None], near_distance: int, pixels: PixelReader
) -> list[str]:
    """For each film the group it is in, named by the smallest image_id of the group.

    Connected components over: one patient (`patients`, unique over sources), the same file, the same pixels, and
    near-duplicates, which are nominated by the perceptual hash and confirmed on the films themselves.
    """
    links = [
        pairs_of_equal(patients),
        pairs_of_equal([film.facts.file_sha256 for film in taken]),
        pairs_of_equal([film.facts.pixel_sha256 for film in taken]),
        near_duplicates(taken, near_distance, pixels),
    ]
    numbers = connected_groups(len(taken), np.concatenate(links))
    names: dict[int, str] = {}
    for number, film in zip(numbers, taken, strict=True):
        names[number] = min(names.get(number, film.image_id), film.image_id)
    return [names[number] for number in numbers]


def near_duplicates(taken: Sequence[Taken], max_distance: int, pixels: PixelReader) -> Pairs:
    """Rows (i, j) of films whose hashes differ in at most `max_distance` bits and whose fine detail agrees."""
    first = _first_of_each([film.facts.pixel_sha256 for film in taken])
    hashes = np.array([int(taken[i].facts.phash, 16) for i in first], np.uint64)
    nominated = np.array(first, np.int64)[near_pairs(hashes, max_distance)]
    return as_pairs(pair for tile in _tiles(nominated) for pair in _confirmed(tile, taken, pixels))


def _confirmed(pairs: Pairs, taken: Sequence[Taken], pixels: PixelReader) -> Iterator[tuple[int, int]]:
    details = {}
    for i in sorted(np.unique(pairs).tolist(), key=lambda i: taken[i].decoded.shard):
        details[i] = fine_detail(pixels.films([taken[i].decoded])[0])
    for i, j in pairs.tolist():
        if detail_agreement(details[i], details[j]) >= SAME_FILM_AGREEMENT:
            yield i, j


def _tiles(pairs: Pairs) -> Iterator[Pairs]:
    """The pairs in portions that touch at most 2 × TILE_FILMS films each."""
    blocks = pairs // TILE_FILMS
    order = np.lexsort((blocks[:, 1], blocks[:, 0]))
    ends = np.flatnonzero(np.any(np.diff(blocks[order], axis=0), axis=1)) + 1
    yield from (tile for tile in np.split(pairs[order], ends) if len(tile))


def _first_of_each(keys: Sequence[str]) -> list[int]:
    first: dict[str, int] = {}
    for position, key in enumerate(keys):
        first.setdefault(key, position)
    return list(first.values())

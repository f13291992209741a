"""Images that stand twice in the collections, and the groups that must stay on one side of a fold.

A perceptual hash alone does not find them: frontal images are so alike that of the pairs within 4 of 64 bits in the
public collections 9 in 10 are of different people. It only nominates pairs; `detail_agreement` decides, by what is
fine in them.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

HASH_BITS = 64
SAME_IMAGE_AGREEMENT = 0.65
"""Least `detail_agreement` of what counts as one image. On the public collections copies reach 0.73 to 1.0, two images of
one patient taken in one position up to 0.7 (they belong together as well), and strangers at most 0.61."""

SIDE = 100
MAX_SHIFT = 5  # of SIDE: copies of an image are cropped by a few pixels
BLOCK = 4096
"""Hashes a side that are compared at a time: 64 MB."""

Pairs = npt.NDArray[np.int64]


def near_pairs(hashes: npt.NDArray[np.uint64], max_distance: int) -> Pairs:
    """All pairs of 64-bit hashes that differ in at most `max_distance` bits, as rows (i, j) with i < j, sorted.

    Every pair is compared, block by block: with bits as ±1 the product of two hashes is 64 less twice their distance,
    and products of matrices are what a processor does fastest (20,000 images: some seconds; bands of equal bits took
    minutes, as images share them). Memory is that of a block.
    """
    signs = _signs(hashes)
    starts = range(0, len(hashes), BLOCK)
    found = [_near_of_blocks(signs, i, j, max_distance) for i in starts for j in starts[i // BLOCK :]]
    pairs = np.concatenate([np.empty((0, 2), np.int64), *found])
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _signs(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.float32]:
    """The bits of each hash as −1 and 1, (N, 64)."""
    bits = np.unpackbits(np.ascontiguousarray(hashes).view(np.uint8).reshape(-1, 8), axis=1)
    return (2 * bits.astype(np.float32)) - 1


def _near_of_blocks(signs: npt.NDArray[np.float32], i: int, j: int, max_distance: int) -> Pairs:
    near = signs[i : i + BLOCK] @ signs[j : j + BLOCK].T >= HASH_BITS - 2 * max_distance
    pairs = np.argwhere(near) + np.array([i, j])
    return pairs[pairs[:, 0] < pairs[:, 1]]


def hamming(a: npt.NDArray[np.uint64], b: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """The number of bits, 0 to 64, in which the elements of two equally long arrays differ."""
    return ((HASH_BITS - (_signs(a) * _signs(b)).sum(axis=1)) / 2).astype(np.int64)


def fine_detail(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.complex64]:
    """The spectrum of the fine structure of a letterboxed image, uint8 (S, S), for `detail_agreement`.

    A band-pass with local gain, at 100 × 100: what images of different people have in common (anatomy at large,
    brightness, contrast, the edge of the letterbox) is taken away; what only copies share (the course of ribs and
    vessels, lines, letters) remains.
    """
    from PIL import Image
    from scipy.ndimage import gaussian_filter

    small = np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
    band = gaussian_filter(small, 0.75) - gaussian_filter(small, 1.75)
    detail = band / (np.sqrt(gaussian_filter(band**2, 4)) + 0.5) * _inside(small)
    spectrum: npt.NDArray[np.complex64] = np.fft.rfft2(detail / (np.linalg.norm(detail) + 1e-6)).astype(np.complex64)
    return spectrum


def _inside(small: npt.NDArray[np.float32], margin: int = 4) -> npt.NDArray[np.float32]:
    """1 within the image proper, 0 in the black borders and `margin` cells along them."""
    mask = np.zeros_like(small)
    rows, columns = (np.flatnonzero((small > 8).mean(axis=axis) > 0.05) for axis in (1, 0))
    if len(rows) and len(columns):
        mask[rows[0] + margin : rows[-1] + 1 - margin, columns[0] + margin : columns[-1] + 1 - margin] = 1
    return mask


def detail_agreement(a: npt.NDArray[np.complex64], b: npt.NDArray[np.complex64]) -> npt.NDArray[np.float32]:
    """The largest correlation, up to 1, of `fine_detail` spectra (…, S, S/2 + 1) over shifts of a few pixels; (…).

    The inverse transform is computed for those shifts alone, as two small matrix products.
    """
    correlation = (_ROWS @ (a * np.conj(b)) @ _COLUMNS).real
    largest: npt.NDArray[np.float32] = correlation.max(axis=(-2, -1))
    return largest


_SHIFTS = np.arange(-MAX_SHIFT, MAX_SHIFT + 1)
_ROWS = np.exp(2j * np.pi / SIDE * np.outer(_SHIFTS, np.arange(SIDE))).astype(np.complex64)
_TWICE = np.r_[1, np.full(SIDE // 2 - 1, 2), 1]  # a real transform stores all but the first and last frequency once
_COLUMNS = (_TWICE[:, None] / SIDE**2 * np.exp(2j * np.pi / SIDE * np.outer(np.arange(SIDE // 2 + 1), _SHIFTS))).astype(
    np.complex64
)


def connected_groups(size: int, pairs: Pairs) -> npt.NDArray[np.int64]:
    """Number the connected components of `size` images joined by `pairs` (rows of two positions); int64 (size,)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(size, size))
    return connected_components(edges, directed=False)[1].astype(np.int64)


def pairs_of_equal(keys: Sequence[str | None]) -> Pairs:
    """Join each image to the first one with the same key (a patient, a file's hash); `None` joins nothing."""
    first: dict[str, int] = {}
    found = [(first.setdefault(key, i), i) for i, key in enumerate(keys) if key is not None]
    return as_pairs((a, b) for a, b in found if a != b)


def as_pairs(rows: Iterable[tuple[int, int]]) -> Pairs:
    """An int64 array (n, 2), also when there are none."""
    return np.array(list(rows), dtype=np.int64).reshape(-1, 2)

"""Near-duplicate images, and the groups of images that must stay on one side of a fold.

A perceptual hash alone does not identify duplicates: frontal images are so alike that 9 in 10 pairs within 4 of 64 bits
in the public collections are of different people. The hash nominates pairs; `detail_agreement` confirms them by their
fine structure.
"""

from collections.abc import Iterable, Sequence

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

HASH_BITS = 64
SAME_IMAGE_AGREEMENT = 0.65
"""`detail_agreement` from which a pair counts as one image. In the public collections copies reach 0.73 to 1.0, images
of one patient in one position up to 0.7 (they belong together as well), and images of different people at most 0.61."""

SIDE = 100
MAX_SHIFT = 5  # of SIDE: copies of an image are cropped by a few pixels
BLOCK = 4096
"""Hashes per side of a block that is compared at a time: 64 MB."""

Pairs = npt.NDArray[np.int64]


def phash(pixels: npt.NDArray[np.uint8]) -> int:
    """Return the 64-bit DCT hash of a letterboxed image, uint8 (S, S), the first bit the highest.

    imagehash's `phash`: the signs, about their median, of the lowest 8 × 8 coefficients of the image at 32 × 32.
    """
    bits = imagehash.phash(Image.fromarray(pixels), hash_size=8).hash
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def near_pairs(hashes: npt.NDArray[np.uint64], max_distance: int) -> Pairs:
    """Return all pairs of 64-bit hashes that differ in at most `max_distance` bits: rows (i, j) with i < j, sorted.

    Every pair is compared, block by block: with bits as ±1 the product of two hashes is 64 minus twice their distance,
    and a matrix product is fast (some seconds for 20,000 images; bands of equal bits took minutes, because images share
    them). Memory is that of one block.
    """
    signs = _signs(hashes)
    starts = range(0, len(hashes), BLOCK)
    blocks = [np.empty((0, 2), np.int64)]
    for i in starts:
        for j in starts[i // BLOCK :]:
            near = signs[i : i + BLOCK] @ signs[j : j + BLOCK].T >= HASH_BITS - 2 * max_distance
            pairs = np.argwhere(near) + np.array([i, j])
            blocks.append(pairs[pairs[:, 0] < pairs[:, 1]])
    joined: Pairs = np.concatenate(blocks)
    order: npt.NDArray[np.int64] = np.lexsort((joined[:, 1], joined[:, 0]))
    return joined[order]


def _signs(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.float32]:
    """Return the bits of each hash as −1 and 1, (N, 64)."""
    bits = np.unpackbits(np.ascontiguousarray(hashes).view(np.uint8).reshape(-1, 8), axis=1)
    return (2 * bits.astype(np.float32)) - 1


def fine_detail(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.complex64]:
    """Return the spectrum of the fine structure of a letterboxed image, uint8 (S, S), for `detail_agreement`.

    A band-pass filter with local gain, at 100 × 100, removes what images of different people share (gross anatomy,
    brightness, contrast, the edge of the letterbox) and keeps what only copies share (the course of ribs and vessels,
    lines, letters).
    """
    small = np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
    band = gaussian_filter(small, 0.75) - gaussian_filter(small, 1.75)
    detail = band / (np.sqrt(gaussian_filter(band**2, 4)) + 0.5) * _inside(small)
    spectrum: npt.NDArray[np.complex64] = np.fft.rfft2(detail / (np.linalg.norm(detail) + 1e-6)).astype(np.complex64)
    return spectrum


def _inside(small: npt.NDArray[np.float32], margin: int = 4) -> npt.NDArray[np.float32]:
    """Return 1 within the image, 0 in the black borders and in `margin` cells along them."""
    mask = np.zeros_like(small)
    rows, columns = (np.flatnonzero((small > 8).mean(axis=axis) > 0.05) for axis in (1, 0))
    if len(rows) and len(columns):
        mask[rows[0] + margin : rows[-1] + 1 - margin, columns[0] + margin : columns[-1] + 1 - margin] = 1
    return mask


def detail_agreement(a: npt.NDArray[np.complex64], b: npt.NDArray[np.complex64]) -> npt.NDArray[np.float32]:
    """Return the largest correlation, up to 1, of two `fine_detail` spectra over shifts of a few pixels.

    The spectra are (…, 100, 51), the result is (…). The inverse transform is computed for those shifts alone, as two
    small matrix products.
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
    """Return the number, int64 (size,), of the connected component of each of `size` images joined by `pairs`."""
    edges = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(size, size))
    groups: npt.NDArray[np.int64] = connected_components(edges, directed=False)[1].astype(np.int64)
    return groups


def pairs_of_equal(keys: Sequence[str | None]) -> Pairs:
    """Pair each image with the first one of the same key (a patient, a file's hash); `None` is paired with nothing."""
    first: dict[str, int] = {}
    joined = [(first.setdefault(key, i), i) for i, key in enumerate(keys) if key is not None]
    return as_pairs((a, b) for a, b in joined if a != b)


def as_pairs(rows: Iterable[tuple[int, int]]) -> Pairs:
    """Return pairs of positions as an int64 array (n, 2), also for no pairs."""
    return np.array(list(rows), dtype=np.int64).reshape(-1, 2)

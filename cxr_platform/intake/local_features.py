"""Copies of images that a hash of the whole image misses: crops, bordered, mirrored, inverted and re-encoded ones.

They keep most of an image's keypoints (`keypoints`). `nominate` searches the nearest descriptors of other images in an
inverted-file index (faiss), so that no two images are compared one by one, and keeps pairs whose matches agree on one
shift, scale and small rotation. Of most images only every third keypoint is searched: the others only where three
of these have a match in one other image. `aligned_agreement` confirms a pair on the pixels.

Descriptors are compared by their first principal components. In memory are the index, with 100 × (32 + 8) bytes an
image, and the positions of the keypoints with their images, 1.6 kB an image: 630 MB for 112,120 images. Descriptors are
read twice, in blocks: to fill the index and to search it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import faiss
import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from cxr_platform.intake.keypoints import DIMENSIONS, KEYPOINTS, QUANTUM, Keypoints
from cxr_platform.progress import NoProgress, Progress

PER_CELL, LEAST_PER_CELL = 64, 40
"""Descriptors per cell of which the cells are learnt; faiss warns of fewer than 39."""
CELLS_SEARCHED = 4
NEIGHBOURS = 5
"""Nearest descriptors looked at for each keypoint, its own included."""
SAMPLED = 3
"""Of so many keypoints of an image, one is searched first."""
SAMPLED_MATCHES = 3
"""Matches of these with one other image, from which on all keypoints of the image are searched."""
MAX_SQUARED_DISTANCE = 0.05
"""Of two RootSIFT descriptors that may be of one structure; unit vectors differ by at most 2."""
COMPONENTS, DISTANCE_SHARE = 32, 0.7
"""Principal components that are compared, and the share of the squared distance in them. Of 300 changed copies among
4,790 public images all 128 dimensions found 282, these components as many, in 0.4 of the time."""
FEWEST_FOR_COMPONENTS = 1000
"""Descriptors from which components are learnt; of fewer images all dimensions are compared."""
MIN_MATCHES = 15
"""Matches of a pair that agree on one transform. On 4,988 public images copies had 30 or more (crops of 60 to 100 %),
consecutive images of one patient 7 to 37, and different patients at most 22."""
MIN_AGREEMENT = 0.88
"""Least `aligned_agreement` of a copy. Copies reached 0.93 to 1.0, consecutive images of one patient up to 0.75, two
drawn images of one phantom 0.85, and different patients with `MIN_MATCHES` at most 0.11."""
MAX_ROTATION = 8.0  # degrees
SCALES = (0.4, 2.5)
REPROJECTION_PIXELS = 3.0

Variant = Literal["same", "mirrored", "inverted", "mirrored and inverted"]
VARIANTS: tuple[Variant, ...] = ("same", "mirrored", "inverted", "mirrored and inverted")
BLOCK = 256
"""Images whose descriptors are in memory at a time."""


@dataclass(frozen=True, eq=False)
class Nomination:
    """Images `first` and `second`: `matches` keypoints of `first`, changed as `variant` says, map to `second` by
    `transform` (2, 3)."""

    first: int
    second: int
    matches: int
    variant: Variant
    transform: npt.NDArray[np.float64]


def nominate(
    images: Sequence[Keypoints],
    variants: Sequence[Variant] = VARIANTS,
    progress: Progress | None = None,
    queries: int | None = None,
) -> list[Nomination]:
    """Return the pairs of `images` that may be copies, each with the variant that has most matches.

    `images` may be a sequence that reads its items: they are taken in order, three times at most. With `queries` only
    pairs with one of the first `queries` images are sought.
    """
    if len(images) < 2:
        return []
    found = _Index(images)
    best: dict[tuple[int, int], Nomination] = {}
    if found.descriptors < 2 * NEIGHBOURS:
        return []
    sought = images if queries is None else images[:queries]
    for start, block in _blocks(sought):
        descriptors = np.concatenate([image.descriptors for image in block])
        for variant in variants:
            for nomination in found.search(start, descriptors, variant):
                key = (min(nomination.first, nomination.second), max(nomination.first, nomination.second))
                if key not in best or best[key].matches < nomination.matches:
                    best[key] = nomination
        (progress or NoProgress()).step("Seeking crops", start + len(block), len(sought))
    return [best[key] for key in sorted(best)]


def aligned_agreement(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8], nomination: Nomination) -> float:
    """Return the correlation, −1 to 1, of the fine structure of two uint8 images, the first laid on the second.

    Compared is what both show. 0 where that is less than 30 × 30 pixels.
    """
    laid = np.ascontiguousarray(first[:, ::-1]) if "mirrored" in nomination.variant else first
    if "inverted" in nomination.variant:
        laid = np.invert(laid)
    size = (second.shape[1], second.shape[0])
    shrinks = np.hypot(*nomination.transform[0, :2]) < 0.7
    warped = cv2.warpAffine(laid, nomination.transform, size, flags=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    covered = cv2.warpAffine(np.ones_like(laid), nomination.transform, size)
    covered = cv2.erode(covered, np.ones((2 * EDGE + 1, 2 * EDGE + 1), np.uint8), borderValue=0) > 0
    if covered.sum() < 900:
        return 0.0
    theirs, agreement = _band(second)[covered], -1.0
    theirs = theirs - theirs.mean()
    mine = _band(warped)
    for down in range(-MAX_SHIFT, MAX_SHIFT + 1):
        for right in range(-MAX_SHIFT, MAX_SHIFT + 1):
            ours = np.roll(mine, (down, right), (0, 1))[covered]
            ours = ours - ours.mean()
            norm = float(np.sqrt((ours @ ours) * (theirs @ theirs))) + 1e-9
            agreement = max(agreement, float(ours @ theirs) / norm)
    return agreement


EDGE = 6  # pixels along the border of what both images show, where filters see one of them only
MAX_SHIFT = 3


def _band(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return a band-pass with local gain: ribs, vessels, lines and letters without anatomy at large and brightness."""
    grey = pixels.astype(np.float32)
    band = gaussian_filter(grey, 1.5) - gaussian_filter(grey, 3.5)
    result: npt.NDArray[np.float32] = band / (np.sqrt(gaussian_filter(band**2, 8)) + 0.5)
    return result


def _blocks(images: Sequence[Keypoints]) -> Iterator[tuple[int, list[Keypoints]]]:
    for start in range(0, len(images), BLOCK):
        yield start, [images[number] for number in range(start, min(start + BLOCK, len(images)))]


class _Index:
    """An inverted-file index of the uint8 descriptors of all images; its cells grow with the root of their number."""

    def __init__(self, images: Sequence[Keypoints]) -> None:
        wanted = int(2 * np.sqrt(KEYPOINTS * len(images)))
        sample = _sample(images, PER_CELL * wanted)
        if len(sample) < LEAST_PER_CELL:  # no keypoints, or few: one cell holds all of them, wherever its centre is
            sample = np.zeros((LEAST_PER_CELL, DIMENSIONS), np.uint8)
        cells = max(1, min(wanted, len(sample) // LEAST_PER_CELL))
        learnt = len(sample) >= FEWEST_FOR_COMPONENTS
        dimensions = COMPONENTS if learnt else DIMENSIONS
        # Both must live as long as the index.
        self._coarse, self._components = faiss.IndexFlatL2(dimensions), faiss.PCAMatrix(DIMENSIONS, dimensions)
        kind = faiss.ScalarQuantizer.QT_8bit if learnt else faiss.ScalarQuantizer.QT_8bit_direct
        lists = faiss.IndexIVFScalarQuantizer(self._coarse, dimensions, cells, kind, faiss.METRIC_L2, False)
        lists.nprobe = CELLS_SEARCHED
        self._lists, self._index = lists, faiss.IndexPreTransform(self._components, lists) if learnt else lists
        self._max_distance = MAX_SQUARED_DISTANCE * QUANTUM**2 * (DISTANCE_SHARE if learnt else 1)
        counts: list[int] = []
        widths: list[int] = []
        points = [np.empty((0, 2), np.float32)]
        self._index.train(sample.astype(np.float32))
        for _, block in _blocks(images):
            counts += [len(image.points) for image in block]
            points += [image.points for image in block]
            widths += [image.width for image in block]
            self._index.add(np.concatenate([image.descriptors for image in block]).astype(np.float32))
        self._points = np.concatenate(points)
        self._widths = widths
        self._offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self._owner = np.repeat(np.arange(len(images)), counts)

    @property
    def descriptors(self) -> int:
        """Number of descriptors."""
        return len(self._owner)

    def search(self, start: int, descriptors: npt.NDArray[np.uint8], variant: Variant) -> Iterator[Nomination]:
        """Yield the images that may be copies of those from `start` on, whose descriptors are given."""
        if not len(descriptors):
            return
        offset = int(self._offsets[start])
        numbers = np.arange(offset, offset + len(descriptors))
        owner = self._owner[numbers]
        sampled = (numbers - self._offsets[owner]) % SAMPLED == 0
        queries = _changed(descriptors, variant)
        near = self._near(numbers[sampled], queries[sampled])
        likely = [self._owner[mine[0]] for mine, _ in self._pairs(near, SAMPLED_MATCHES)]
        rest = ~sampled & np.isin(owner, likely)
        near = np.concatenate([near, self._near(numbers[rest], queries[rest])], axis=1)
        for mine, theirs in self._pairs(near, MIN_MATCHES):
            first, second = int(self._owner[mine[0]]), int(self._owner[theirs[0]])
            if variant != "same" and first > second:
                continue  # found from the other side too
            points = self._points[mine].copy()
            if "mirrored" in variant:
                points[:, 0] = self._widths[first] - 1 - points[:, 0]
            fitted = _fitted(points, self._points[theirs])
            if fitted:
                yield Nomination(first, second, fitted[0], variant, fitted[1])

    def _near(self, numbers: npt.NDArray[np.int64], queries: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
        """Return (2, n): of each of n matches the number of a query, and of a near descriptor of another image."""
        if not len(queries):
            return np.empty((2, 0), np.int64)
        distances, neighbours = self._index.search(queries.astype(np.float32), NEIGHBOURS)
        near = (distances <= self._max_distance) & (neighbours >= 0)
        matches = np.stack([np.repeat(numbers, near.sum(axis=1)), neighbours[near]])
        apart: npt.NDArray[np.int64] = matches[:, self._owner[matches[0]] != self._owner[matches[1]]]
        return apart

    def _pairs(
        self, matches: npt.NDArray[np.int64], least: int
    ) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """Return the matches of each pair of images that has at least so many."""
        mine, theirs = matches
        keys = self._owner[mine] * len(self._widths) + self._owner[theirs]
        order = np.argsort(keys, kind="stable")
        keys, mine, theirs = keys[order], mine[order], theirs[order]
        starts = np.flatnonzero(np.diff(keys, prepend=-1))
        ends = np.append(starts, len(keys))[1:]
        enough = ends - starts >= least
        places = zip(starts[enough].tolist(), ends[enough].tolist(), strict=True)
        return [(mine[start:end], theirs[start:end]) for start, end in places]


def _sample(images: Sequence[Keypoints], count: int) -> npt.NDArray[np.uint8]:
    """Return about `count` descriptors, those of images drawn at random."""
    drawn = np.random.default_rng(0).permutation(len(images))[: -(-count // KEYPOINTS)]
    descriptors = [images[number].descriptors for number in np.sort(drawn).tolist()]
    return np.concatenate([np.empty((0, DIMENSIONS), np.uint8), *descriptors])


def _changed(descriptors: npt.NDArray[np.uint8], variant: Variant) -> npt.NDArray[np.uint8]:
    """Return the descriptors that the mirrored or inverted image would have.

    A SIFT descriptor is a grid of 4 × 4 cells with 8 orientations, relative to the keypoint's own orientation.
    Mirroring reverses one axis of the grid and the sense of the orientations. Inverting reverses every gradient, and
    with it the keypoint's orientation: the grid is turned by 180°, the relative orientations stay.
    """
    grid = descriptors.reshape(-1, 4, 4, 8)
    if "mirrored" in variant:
        grid = grid[:, ::-1, :, :][..., (-np.arange(8)) % 8]
    if "inverted" in variant:
        grid = grid[:, ::-1, ::-1, :]
    return grid.reshape(-1, DIMENSIONS)


def _fitted(
    points: npt.NDArray[np.float32], others: npt.NDArray[np.float32]
) -> tuple[int, npt.NDArray[np.float64]] | None:
    """Return how many `points` map to `others` by one transform (2, 3), and it; `None` if that is not one of a copy."""
    transform, inliers = cv2.estimateAffinePartial2D(
        points, others, method=cv2.RANSAC, ransacReprojThreshold=REPROJECTION_PIXELS
    )
    if transform is None or int(inliers.sum()) < MIN_MATCHES:
        return None
    scale = float(np.hypot(transform[0, 0], transform[1, 0]))
    rotation = float(np.degrees(np.arctan2(transform[1, 0], transform[0, 0])))
    if abs(rotation) > MAX_ROTATION or not SCALES[0] < scale < SCALES[1]:
        return None
    return int(inliers.sum()), transform

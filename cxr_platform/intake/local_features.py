"""Local features of images, by which copies are found that a hash of the whole image misses.

Crops and bordered, mirrored, inverted or re-encoded copies keep most of an image's keypoints. Each image has up to 100
SIFT keypoints (Lowe 2004) with RootSIFT descriptors (Arandjelović & Zisserman 2012). `nominate` searches the nearest
descriptors of other images in an inverted-file index (faiss), whose cost grows almost linearly with the number of
images, and keeps pairs whose matches agree on one shift, scale and small rotation. `aligned_agreement` confirms a pair
on the pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import faiss
import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

KEYPOINTS = 100
"""Keypoints kept per image, the strongest first."""
NEIGHBOURS = 5
"""Nearest descriptors looked at for each keypoint, its own included."""
MAX_SQUARED_DISTANCE = 0.05
"""Of two RootSIFT descriptors that may be of one structure; unit vectors differ by at most 2."""
MIN_MATCHES = 15
"""Matches of a pair that agree on one transform. On 4,988 public images copies had 30 or more (crops of 60 to 100 %),
consecutive images of one patient 7 to 37, and different patients at most 22."""
MIN_AGREEMENT = 0.6
"""Least `aligned_agreement` of a copy. Copies reached 0.93 to 1.0, consecutive images of one patient up to 0.75 (they
belong together as well), and different patients with `MIN_MATCHES` at most 0.11."""
MAX_ROTATION = 8.0  # degrees
SCALES = (0.4, 2.5)
REPROJECTION_PIXELS = 3.0

Variant = Literal["same", "mirrored", "inverted", "mirrored and inverted"]
VARIANTS: tuple[Variant, ...] = ("same", "mirrored", "inverted", "mirrored and inverted")
QUANTUM = 255.0
DIMENSIONS = 128


@dataclass(frozen=True, eq=False)
class Keypoints:
    """`points` (n, 2) float32, x and y in pixels; `descriptors` (n, 128) uint8, RootSIFT × 255; `width` in pixels."""

    points: npt.NDArray[np.float32]
    descriptors: npt.NDArray[np.uint8]
    width: int


@dataclass(frozen=True, eq=False)
class Nomination:
    """Images `first` and `second`: `matches` keypoints of `first`, changed as `variant` says, map to `second` by
    `transform` (2, 3)."""

    first: int
    second: int
    matches: int
    variant: Variant
    transform: npt.NDArray[np.float64]


def keypoints(pixels: npt.NDArray[np.uint8]) -> Keypoints:
    """Return the strongest keypoints of a grey image, uint8 (height, width), without its letterbox's borders."""
    detector = cv2.SIFT.create(nfeatures=KEYPOINTS, contrastThreshold=0.01, edgeThreshold=20)
    found, descriptors = detector.detectAndCompute(np.ascontiguousarray(pixels), None)
    if descriptors is None:
        return Keypoints(np.empty((0, 2), np.float32), np.empty((0, DIMENSIONS), np.uint8), pixels.shape[1])
    points = np.array([point.pt for point in found[:KEYPOINTS]], np.float32)
    shares = descriptors[:KEYPOINTS] / np.maximum(descriptors[:KEYPOINTS].sum(axis=1, keepdims=True), 1e-9)
    return Keypoints(points, np.rint(QUANTUM * np.sqrt(shares)).astype(np.uint8), pixels.shape[1])


def nominate(images: Sequence[Keypoints], variants: Sequence[Variant] = VARIANTS) -> list[Nomination]:
    """Return the pairs of `images` that may be copies, each with the variant that has most matches."""
    owner = np.repeat(np.arange(len(images)), [len(image.points) for image in images])
    if len(images) < 2 or len(owner) < 2 * NEIGHBOURS:
        return []
    descriptors = np.concatenate([image.descriptors for image in images])
    offsets = np.searchsorted(owner, np.arange(len(images)))
    index, _coarse = _index(descriptors)
    best: dict[tuple[int, int], Nomination] = {}
    for variant in variants:
        distances, neighbours = index.search(_changed(descriptors, variant).astype(np.float32), NEIGHBOURS)
        pairs = _matched_pairs(distances, neighbours, owner)
        for first, second, mine, theirs in pairs:
            if variant != "same" and first > second:
                continue  # found from the other side too
            nomination = _fitted(images, first, second, mine - offsets[first], theirs - offsets[second], variant)
            key = (min(first, second), max(first, second))
            if nomination and (key not in best or best[key].matches < nomination.matches):
                best[key] = nomination
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


def _index(descriptors: npt.NDArray[np.uint8]) -> tuple[faiss.Index, faiss.Index]:
    """Return an inverted-file index of uint8 descriptors, and its coarse index, which must live as long.

    The number of cells grows with the square root of that of the descriptors.
    """
    cells = max(1, int(2 * np.sqrt(len(descriptors))))
    coarse = faiss.IndexFlatL2(DIMENSIONS)
    kind, residuals = faiss.ScalarQuantizer.QT_8bit_direct, False
    index = faiss.IndexIVFScalarQuantizer(coarse, DIMENSIONS, cells, kind, faiss.METRIC_L2, residuals)
    sample = np.random.default_rng(0).permutation(len(descriptors))[: 64 * cells]
    index.train(descriptors[np.sort(sample)].astype(np.float32))
    for start in range(0, len(descriptors), 2**18):
        index.add(descriptors[start : start + 2**18].astype(np.float32))
    index.nprobe = 4
    return index, coarse


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


def _matched_pairs(
    distances: npt.NDArray[np.float32], neighbours: npt.NDArray[np.int64], owner: npt.NDArray[np.int64]
) -> list[tuple[int, int, npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Return (first, second, descriptors of first, descriptors of second) of the pairs with enough near descriptors."""
    mine = np.repeat(np.arange(len(neighbours)), neighbours.shape[1])
    theirs, near = neighbours.ravel(), distances.ravel() <= MAX_SQUARED_DISTANCE * QUANTUM**2
    near &= theirs >= 0
    mine, theirs = mine[near], theirs[near]
    apart = owner[mine] != owner[theirs]
    mine, theirs = mine[apart], theirs[apart]
    keys = owner[mine] * len(owner) + owner[theirs]
    order = np.argsort(keys, kind="stable")
    keys, mine, theirs = keys[order], mine[order], theirs[order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    ends = np.append(starts, len(keys))[1:]
    return [
        (int(owner[mine[a]]), int(owner[theirs[a]]), mine[a:b], theirs[a:b])
        for a, b in zip(starts.tolist(), ends.tolist(), strict=True)
        if b - a >= MIN_MATCHES
    ]


def _fitted(
    images: Sequence[Keypoints],
    first: int,
    second: int,
    mine: npt.NDArray[np.int64],
    theirs: npt.NDArray[np.int64],
    variant: Variant,
) -> Nomination | None:
    points = images[first].points[mine].copy()
    if "mirrored" in variant:
        points[:, 0] = images[first].width - 1 - points[:, 0]
    transform, inliers = cv2.estimateAffinePartial2D(
        points, images[second].points[theirs], method=cv2.RANSAC, ransacReprojThreshold=REPROJECTION_PIXELS
    )
    if transform is None or int(inliers.sum()) < MIN_MATCHES:
        return None
    scale = float(np.hypot(transform[0, 0], transform[1, 0]))
    rotation = float(np.degrees(np.arctan2(transform[1, 0], transform[0, 0])))
    if abs(rotation) > MAX_ROTATION or not SCALES[0] < scale < SCALES[1]:
        return None
    return Nomination(first, second, int(inliers.sum()), variant, transform)

"""Drift of the latest images and answers from the reference statistics of the bundle.

PSI (population stability index) over the ten bins between the reference's deciles, or over the seven predicted labels:
Σ (a − e) · ln(a / e), with `a` the shares in the window and `e` those in the reference. Both are smoothed by half an
image per bin (Jeffreys' prior), which keeps empty bins finite and lowers their weight in a small window. By convention
up to 0.1 is stable and above 0.25 is changed (Siddiqi 2006). Without any change PSI is about 9 · (1/n + 1/reference n)
(6 for labels), a scaled χ² (Yurdakul & Naranjo 2020): 0.045 for 200 images, 0.009 for 1,000.

KS (Kolmogorov-Smirnov statistic): the largest distance between the two distribution functions, 0 to 1. Without any
change 95 % of windows of 1,000 images are below 0.043.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr_platform.errors import ConfigError
from cxr_platform.labels import CLASSES, class_index
from cxr_platform.monitoring.reference import POINTS, QUANTITIES, Quantity, Reference

WINDOW_IMAGES = 1000
LEAST_IMAGES = 200  # with fewer images PSI is close to 0.1 by chance alone
LABELS = "labels"
PSI_STABLE, PSI_CHANGED = 0.1, 0.25
DECILES = np.arange(1, 10) * (POINTS // 10)
SMOOTHING = 0.5  # images per bin


@dataclass(frozen=True)
class Observation:
    """The values that are kept of a screened image, in the units of `reference.QUANTITIES`."""

    label: str  # predicted class
    confidence: float
    covid19: float
    brightness: float
    contrast: float
    padding: float
    distance: float


@dataclass(frozen=True)
class Drift:
    """Drift of one quantity over `n` images; `ks` is `None` for predicted labels, which have no order."""

    psi: float
    ks: float | None
    n: int


class Window:
    """The last `size` observations. Several threads may add and read at the same time."""

    def __init__(self, size: int = WINDOW_IMAGES) -> None:
        if size < 1:
            raise ConfigError("Expected a window of one image or more.", received=size)
        self._values = np.empty((size, len(QUANTITIES)), np.float32)
        self._labels = np.empty(size, np.int8)
        self._seen = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return min(self._seen, len(self._labels))

    def add(self, observation: Observation) -> None:
        """Add one image; raise `KeyError` for a label that is not in `CLASSES`."""
        label = class_index(observation.label)
        values = [getattr(observation, name) for name in QUANTITIES]
        with self._lock:
            place = self._seen % len(self._labels)
            self._values[place], self._labels[place] = values, label
            self._seen += 1

    def contents(self) -> tuple[Mapping[str, NDArray[np.float32]], NDArray[np.int8]]:
        """Return copies of the values (n,) by quantity, and of the predicted labels (n,) as positions in `CLASSES`."""
        with self._lock:
            values, labels = self._values[: len(self)].copy(), self._labels[: len(self)].copy()
        return dict(zip(QUANTITIES, values.T, strict=True)), labels


def drift(window: Window, reference: Reference) -> dict[str, Drift]:
    """Return the drift of each of `QUANTITIES` and of `labels`; empty for an empty window.

    Draw no conclusion from fewer than `LEAST_IMAGES` images.
    """
    values, labels = window.contents()
    if not len(labels):
        return {}
    by_quantity = {name: _quantity_drift(values[name], reference.quantities[name]) for name in QUANTITIES}
    shares = np.array([reference.labels[label] for label in CLASSES])
    counts = np.bincount(labels, minlength=len(CLASSES))
    return {**by_quantity, LABELS: Drift(psi(counts, shares * reference.answers), None, len(labels))}


def psi(counts: NDArray[np.generic], expected: NDArray[np.generic]) -> float:
    """Return the PSI of numbers of images by bin (B,) against those of the reference (B,)."""
    a, e = (np.asarray(images, np.float64) + SMOOTHING for images in (counts, expected))
    a, e = a / a.sum(), e / e.sum()
    return float(((a - e) * np.log(a / e)).sum())


def _quantity_drift(values: NDArray[np.float32], reference: Quantity) -> Drift:
    return Drift(psi(*_binned(values, reference)), _ks(values, reference.quantiles), len(values))


def _ks(first: NDArray[np.generic], second: NDArray[np.generic]) -> float:
    """Return the statistic of `scipy.stats.ks_2samp`, whose import costs each replica half a second and 60 MB."""
    every = np.concatenate([first, second])
    shares = (np.searchsorted(np.sort(each), every, side="right") / len(each) for each in (first, second))
    return float(np.abs(np.subtract(*shares)).max())


def _binned(values: NDArray[np.float32], reference: Quantity) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """Return numbers of images (B,) in the bins between the reference's deciles, of the window and of the reference.

    A bin includes its upper edge. Equal deciles, of a value that many images share, are one edge: B ≤ 10.
    """
    edges = np.unique(reference.quantiles[DECILES])
    below = np.searchsorted(reference.quantiles, edges, side="right") / POINTS
    expected = reference.n * np.diff(below, prepend=0, append=1)
    return np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(expected)), expected

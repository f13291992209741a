"""Whether the latest images, and the answers to them, are distributed as the bundle's reference says.

PSI (population stability index) over the ten bins between the reference's deciles, or over the seven predicted labels:
Σ (a − e) · ln(a / e), with `a` the window's shares and `e` the reference's. Both are smoothed by half an image a bin
(Jeffreys' prior), so that an empty bin is finite and means less in a small window. By convention up to 0.1 is stable
and above 0.25 is changed (Siddiqi 2006). Where nothing has changed PSI is not 0 but about 9 · (1/n + 1/reference n)
(6 for labels), a scaled χ² (Yurdakul & Naranjo 2020): 0.045 for 200 images, 0.009 for 1,000.

KS: the largest distance between the two distribution functions, 0 to 1; of 1,000 images of an unchanged sort 95 % of
windows stay below 0.043.
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
LEAST_IMAGES = 200  # below this what chance alone makes of PSI comes near 0.1
LABELS = "labels"
PSI_STABLE, PSI_CHANGED = 0.1, 0.25
DECILES = np.arange(1, 10) * (POINTS // 10)
HALF_A_IMAGE = 0.5


@dataclass(frozen=True)
class Observation:
    """What is kept of a screened image: seven numbers, in the units of `reference.QUANTITIES`."""

    label: str  # the predicted class
    confidence: float
    covid19: float
    brightness: float
    contrast: float
    padding: float
    distance: float


@dataclass(frozen=True)
class Drift:
    """How far one quantity of `n` images is from the reference; no `ks` of predicted labels, which have no order."""

    psi: float
    ks: float | None
    n: int


class Window:
    """The last `size` observations, whatever came before forgotten. May be filled and read by several threads."""

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
        """Take one image in; `KeyError` for a label that is not one of the seven."""
        label = class_index(observation.label)
        values = [getattr(observation, name) for name in QUANTITIES]
        with self._lock:
            place = self._seen % len(self._labels)
            self._values[place], self._labels[place] = values, label
            self._seen += 1

    def contents(self) -> tuple[Mapping[str, NDArray[np.float32]], NDArray[np.int8]]:
        """A copy: for each quantity its values (n,), and positions (n,) in `CLASSES` of the predicted labels."""
        with self._lock:
            values, labels = self._values[: len(self)].copy(), self._labels[: len(self)].copy()
        return dict(zip(QUANTITIES, values.T, strict=True)), labels


def drift(window: Window, reference: Reference) -> dict[str, Drift]:
    """The drift of each of `QUANTITIES` and of `labels`; empty for an empty window.

    Below `LEAST_IMAGES` images the figures say little, and nothing should be concluded from them.
    """
    values, labels = window.contents()
    if not len(labels):
        return {}
    found = {name: _of_quantity(values[name], reference.quantities[name]) for name in QUANTITIES}
    shares = np.array([reference.labels[label] for label in CLASSES])
    counts = np.bincount(labels, minlength=len(CLASSES))
    return {**found, LABELS: Drift(psi(counts, shares * reference.answers), None, len(labels))}


def psi(counts: NDArray[np.generic], expected: NDArray[np.generic]) -> float:
    """PSI of images counted by bin (B,) against those of the reference (B,)."""
    a, e = (np.asarray(images, np.float64) + HALF_A_IMAGE for images in (counts, expected))
    a, e = a / a.sum(), e / e.sum()
    return float(((a - e) * np.log(a / e)).sum())


def _of_quantity(values: NDArray[np.float32], reference: Quantity) -> Drift:
    return Drift(psi(*_binned(values, reference)), _ks(values, reference.quantiles), len(values))


def _ks(first: NDArray[np.generic], second: NDArray[np.generic]) -> float:
    """The two-sample statistic of `scipy.stats.ks_2samp`, whose import costs each replica half a second and 60 MB."""
    every = np.concatenate([first, second])
    shares = (np.searchsorted(np.sort(each), every, side="right") / len(each) for each in (first, second))
    return float(np.abs(np.subtract(*shares)).max())


def _binned(values: NDArray[np.float32], reference: Quantity) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """Images (B,) in the bins between the reference's deciles, and how many of the reference's are there.

    A bin holds its upper edge. Deciles that coincide, because many images share a value, are one edge: B ≤ 10.
    """
    edges = np.unique(reference.quantiles[DECILES])
    below = np.searchsorted(reference.quantiles, edges, side="right") / POINTS
    expected = reference.n * np.diff(below, prepend=0, append=1)
    return np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(expected)), expected

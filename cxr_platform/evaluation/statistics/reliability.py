"""Reliability: how often a probability comes true, in ten bins of equal width.

Equal width, as Guo et al. (2017) and most readers expect: the bins are the same before and after scaling, for every
strategy and in every replicate. Bins that hold few images weigh as little as they hold.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.statistics.resampling import Bootstrap, percentile_interval

if TYPE_CHECKING:
    import numpy as np

BINS = 10


@dataclass(frozen=True)
class Bin:
    """Images whose probability lies between `low` and `high`: their number, mean probability (0 to 1), and how often
    it came true (percent)."""

    low: float
    high: float
    images: int
    stated: float
    observed: Interval


def reliability_bins(stated: "np.ndarray", came_true: "np.ndarray", bootstrap: Bootstrap) -> tuple[Bin, ...]:
    """The bins that hold images; `stated` (N,) from 0 to 1, `came_true` (N,) bool."""
    places = bin_of(stated)
    found = []
    for place in range(BINS):
        inside = places == place
        if inside.any():
            observed = bootstrap.rate(came_true, among=inside)
            edges = place / BINS, (place + 1) / BINS
            found.append(Bin(*edges, int(inside.sum()), float(stated[inside].mean()), observed))
    return tuple(found)


def bin_gaps(stated: "np.ndarray", came_true: "np.ndarray") -> "np.ndarray":
    """(N, `BINS`): what came true (0 or 1) less what was stated, in the column of the image's bin, 0 elsewhere."""
    import numpy as np

    gaps = np.zeros((len(stated), BINS))
    gaps[np.arange(len(stated)), bin_of(stated)] = came_true - stated
    return gaps


def calibration_error(totals: "np.ndarray", images: "np.ndarray") -> "np.ndarray":
    """(r,) expected calibration errors, 0 to 1: the distance between stated and observed in a bin, averaged over images.

    `totals` (r, `BINS`) are sums of `bin_gaps` over `images` (r,).
    """
    import numpy as np

    return np.abs(totals).sum(axis=1) / images


def error_interval(value: float, replicates: "np.ndarray") -> Interval:
    """The interval of a calibration error.

    Chance alone makes it larger than nothing, and a replicate adds chance once more. So the bounds are the percentiles
    mirrored at the value (the basic bootstrap; Davison & Hinkley 1997, §5.2), no lower than 0, and hold the value.
    Simulated, 95 % of them hold the truth where it is 0.2 over 1,000 images, and only 70 % where it is 0 over 300.
    """
    drawn = percentile_interval(value, replicates, ratio=True)
    if drawn.low is None or drawn.high is None:
        return drawn
    low, high = 2 * value - drawn.high, 2 * value - drawn.low
    return replace(drawn, low=max(0.0, min(value, low)), high=max(value, high))


def bin_of(stated: "np.ndarray") -> "np.ndarray":
    """(N,) positions of the bins; a probability of 1 stands in the last."""
    import numpy as np

    return np.minimum((stated * BINS).astype(int), BINS - 1)

"""Net benefit of acting on images whose probability reaches a threshold (decision curve; Vickers & Elkin 2006)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.predictions import Array
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap, percentile_interval


@dataclass(frozen=True)
class NetBenefit:
    """Net true positives per 100 images at a `threshold` in percent, by the network and by acting on all images.

    `gain` is the network's minus the better of acting on all images and on none (0), on the same images.
    """

    threshold: int
    network: Interval
    all_images: float
    gain: Interval

    @property
    def useful(self) -> bool:
        """True if the network is better than both acting on all images and on none: the interval of `gain` is above 0.

        The interval of the network itself says less: most of it is the share of Covid19, which changes the others too.
        """
        low = self.gain.value if self.gain.low is None else self.gain.low
        return low is not None and low > 0


def net_benefits(
    positive: Array, probability: Array, bootstrap: Bootstrap, thresholds: Sequence[int]
) -> tuple[NetBenefit, ...]:
    """Return the net benefit of acting on images (N,) whose `probability` (0 to 1) reaches each threshold (percent)."""
    odds = np.array([threshold / (100 - threshold) for threshold in thresholds])
    acted = probability[:, None] >= np.array(thresholds) / 100
    worth = np.where(positive[:, None], 1.0, -odds)  # of acting on an image, per threshold
    everything = worth.mean(axis=0)
    values = np.concatenate([acted * worth, acted * worth - np.where(everything > 0, worth, 0.0)], axis=1)
    totals = bootstrap.totals(np.column_stack([values, np.ones(len(positive))]))
    measured, replicates = 100 * values.mean(axis=0), 100 * totals[:, :-1] / totals[:, -1:]
    return tuple(
        NetBenefit(
            threshold,
            percentile_interval(float(measured[i]), replicates[:, i]),
            float(100 * everything[i]),
            percentile_interval(float(measured[j]), replicates[:, j], signed=True),
        )
        for i, (threshold, j) in enumerate(zip(thresholds, range(len(odds), 2 * len(odds)), strict=True))
    )

"""A strategy's probabilities before and after temperature scaling that was fitted on other folds."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.predictions import Predictions
from cxr_platform.evaluation.statistics.measures import brier_scores
from cxr_platform.evaluation.statistics.reliability import (
    BINS,
    Bin,
    bin_gaps,
    calibration_error,
    error_interval,
    reliability_bins,
)
from cxr_platform.evaluation.statistics.resampling import Bootstrap, percentile_interval
from cxr_platform.evaluation.statistics.temperature import fold_temperatures, log_losses, scale
from cxr_platform.labels import CLASSES, POSITIVE_CLASS

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Quality:
    """How good one set of probabilities is: `top_…` the likeliest class's, `covid_…` those of Covid19.

    ECE from 0 to 1, multiclass Brier score from 0 to 2, that of Covid19 alone from 0 to 1, log loss in nats.
    """

    top_ece: Interval
    brier: Interval
    log_loss: Interval
    covid_ece: Interval
    covid_brier: Interval


@dataclass(frozen=True)
class Calibration:
    """One strategy; `temperatures` holds one for each fold, fitted on the others."""

    strategy: str
    temperatures: tuple[float, ...]
    before: Quality
    after: Quality

    @property
    def temperature(self) -> float:
        """Mean over folds."""
        return sum(self.temperatures) / len(self.temperatures)


@dataclass(frozen=True)
class Reliability:
    """The bins of the likeliest class and of Covid19."""

    top: tuple[Bin, ...]
    covid: tuple[Bin, ...]


def calibrate(predictions: Predictions, strategy: str, bootstrap: Bootstrap) -> Calibration:
    """Scale each fold of `strategy` at the temperature of the other folds, and judge both.

    The intervals take the temperatures as they are; fitting them again is not part of them.
    """
    temperatures, scaled = cross_scaled(predictions, strategy)
    before = quality(predictions.label, predictions.probability[strategy], bootstrap)
    return Calibration(strategy, temperatures, before, quality(predictions.label, scaled, bootstrap))


def cross_scaled(predictions: Predictions, strategy: str) -> "tuple[tuple[float, ...], np.ndarray]":
    """The temperature of each fold, and (N, 7) probabilities, each image's scaled at that of its fold."""
    probability = predictions.probability[strategy]
    temperatures = fold_temperatures(probability, predictions.label, predictions.fold, predictions.folds)
    return tuple(map(float, temperatures)), scale(probability, temperatures[predictions.fold])


def quality(label: "np.ndarray", probability: "np.ndarray", bootstrap: Bootstrap) -> Quality:
    """The quality of `probability` (N, 7) for images of `label` (N,)."""
    import numpy as np

    top, right, stated, ill = _two_views(label, probability)
    means = [brier_scores(label, probability), log_losses(label, probability), (stated - ill) ** 2, np.ones(len(label))]
    columns = np.column_stack([bin_gaps(top, right), bin_gaps(stated, ill), *means])
    values, drawn = _figures(columns.sum(axis=0, keepdims=True))[0], _figures(bootstrap.totals(columns))
    errors = [error_interval(float(values[i]), drawn[:, i]) for i in (0, 1)]
    brier, loss, covid_brier = (percentile_interval(float(values[i]), drawn[:, i], ratio=True) for i in (2, 3, 4))
    return Quality(errors[0], brier, loss, errors[1], covid_brier)


def _figures(totals: "np.ndarray") -> "np.ndarray":
    """(r, 5): both calibration errors, then the three means, from sums over images."""
    import numpy as np

    images = totals[:, -1]
    errors = [calibration_error(totals[:, part], images) for part in (slice(BINS), slice(BINS, 2 * BINS))]
    return np.column_stack([*errors, totals[:, 2 * BINS : -1] / images[:, None]])


def reliability(label: "np.ndarray", probability: "np.ndarray", bootstrap: Bootstrap) -> Reliability:
    """The bins of `probability` (N, 7) for images of `label` (N,)."""
    top, right, stated, ill = _two_views(label, probability)
    return Reliability(reliability_bins(top, right, bootstrap), reliability_bins(stated, ill, bootstrap))


def _two_views(label: "np.ndarray", probability: "np.ndarray") -> "tuple[np.ndarray, ...]":
    """What is stated and whether it came true, (N,) each: of the likeliest class, then of Covid19."""
    covid = CLASSES.index(POSITIVE_CLASS)
    right = probability.argmax(axis=1) == label
    return probability.max(axis=1), right, probability[:, covid], label == covid

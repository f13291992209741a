"""Temperature scaling: one number that makes a network's probabilities as sure as it is right (Guo et al. 2017, §4.2).

Out-of-fold probabilities are the softmax of logits, so their logarithm is the logits but for a constant, which softmax
drops again. Scaling keeps the order of the classes: no decision by the likeliest class changes.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.predictions import Predictions
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap, percentile_interval
from cxr_platform.evaluation.statistics.measures import brier_scores
from cxr_platform.labels import CLASSES, POSITIVE_CLASS

if TYPE_CHECKING:
    import numpy as np

LOG_BOUNDS = (-3.0, 3.0)  # temperatures from 0.05 to 20


def fit_temperature(probability: "np.ndarray", label: "np.ndarray") -> float:
    """The temperature with the lowest negative log likelihood of `label` (N,) under `probability` (N, 7).

    Above 1 for a network that is too sure. Searched from 0.05 to 20: images that are all right, or all wrong, would
    drive it to 0 or beyond every bound.
    """
    import math

    from scipy.optimize import minimize_scalar

    logits = _logits(probability)
    found = minimize_scalar(lambda log_t: _loss(logits / math.exp(log_t), label), bounds=LOG_BOUNDS, method="bounded")
    return math.exp(float(found.x))


def scale(probability: "np.ndarray", temperature: "float | np.ndarray") -> "np.ndarray":
    """(N, 7) probabilities at `temperature`: one for all images, or (N,) one for each."""
    import numpy as np
    from scipy.special import softmax

    return softmax(_logits(probability) / np.reshape(temperature, (-1, 1)), axis=1)


def fold_temperatures(probability: "np.ndarray", label: "np.ndarray", fold: "np.ndarray", folds: int) -> "np.ndarray":
    """(folds,) temperatures; that of fold k is fitted on the images of all other folds and never sees those of k.

    The other folds were predicted by networks of their own, of the same recipe: it is the recipe that is calibrated.
    """
    import numpy as np

    return np.array([fit_temperature(probability[fold != k], label[fold != k]) for k in range(folds)])


def log_losses(label: "np.ndarray", probability: "np.ndarray") -> "np.ndarray":
    """(N,) negative log likelihoods in nats."""
    import numpy as np

    return -np.log(_positive(probability[np.arange(len(label)), label]))


def _logits(probability: "np.ndarray") -> "np.ndarray":
    import numpy as np

    return np.log(_positive(probability))


def _positive(probability: "np.ndarray") -> "np.ndarray":
    """What float32 rounded to 0 was smaller than its least number, and gets that."""
    import numpy as np

    return np.maximum(np.asarray(probability, dtype=float), np.finfo(np.float32).tiny)


def _loss(logits: "np.ndarray", label: "np.ndarray") -> float:
    import numpy as np
    from scipy.special import log_softmax

    return -float(log_softmax(logits, axis=1)[np.arange(len(label)), label].mean())


# Reliability: how often a probability comes true, in ten bins of equal width.
# Equal width, as Guo et al. (2017) and most readers expect: the bins are the same before and after scaling, for every
# strategy and in every replicate. Bins that hold few images weigh as little as they hold.


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


# A strategy's probabilities before and after temperature scaling that was fitted on other folds.


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

"""Calibration of probabilities: temperature scaling, reliability bins and expected calibration error.

Temperature scaling divides the logits by one number, chosen for the lowest log loss (Guo et al. 2017, §4.2). Stored
probabilities are a softmax of logits, so their logarithms are the logits up to a constant, which softmax cancels.
Scaling keeps the order of the classes: the predicted class does not change.

Reliability uses ten bins of equal width (Guo et al. 2017): they are the same before and after scaling, for every
strategy and in every replicate. A bin with few images has little weight.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.predictions import POSITIVE, Array, Predictions
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap, percentile_interval
from cxr_platform.evaluation.statistics.measures import brier_scores

LOG_BOUNDS = (-3.0, 3.0)  # temperatures from 0.05 to 20
BINS = 10


@dataclass(frozen=True)
class CalibrationQuality:
    """Quality of one set of probabilities: `top_…` of the most probable class, `covid_…` of Covid19.

    Expected calibration errors from 0 to 1, multiclass Brier score from 0 to 2, that of Covid19 from 0 to 1, log loss
    in nats.
    """

    top_ece: Interval
    brier: Interval
    log_loss: Interval
    covid_ece: Interval
    covid_brier: Interval


@dataclass(frozen=True)
class Calibration:
    """Probabilities of one strategy before and after scaling; `temperatures[k]` was fitted without fold k."""

    strategy: str
    temperatures: tuple[float, ...]
    before: CalibrationQuality
    after: CalibrationQuality

    @property
    def temperature(self) -> float:
        """Mean over folds."""
        return sum(self.temperatures) / len(self.temperatures)


@dataclass(frozen=True)
class Bin:
    """Images with a probability from `low` to `high`: number, mean probability (0 to 1), observed rate (percent)."""

    low: float
    high: float
    images: int
    stated: float
    observed: Interval


@dataclass(frozen=True)
class Reliability:
    """Bins of the most probable class and of Covid19."""

    top: tuple[Bin, ...]
    covid: tuple[Bin, ...]


def fit_temperature(probability: Array, label: Array) -> float:
    """Return the temperature with the lowest log loss of `label` (N,) under `probability` (N, 7).

    It is above 1 for an overconfident network. The search is bounded to 0.05 … 20: images that are all right or all
    wrong have no optimum.
    """
    logits = _logits(probability)

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(logits / math.exp(log_temperature), axis=1)
        return -float(scaled[np.arange(len(label)), label].mean())

    return math.exp(float(minimize_scalar(loss, bounds=LOG_BOUNDS, method="bounded").x))


def scale(probability: Array, temperature: float | Array) -> Array:
    """Return (N, 7) probabilities scaled at one `temperature`, or at one per image (N,)."""
    scaled: Array = softmax(_logits(probability) / np.reshape(temperature, (-1, 1)), axis=1)
    return scaled


def fold_temperatures(probability: Array, label: Array, fold: Array, folds: int) -> Array:
    """Return (folds,) temperatures, each fitted on the images of all other folds.

    Other folds were predicted by other networks of the same recipe: it is the recipe that is calibrated.
    """
    return np.array([fit_temperature(probability[fold != k], label[fold != k]) for k in range(folds)])


def log_losses(label: Array, probability: Array) -> Array:
    """Return (N,) negative log likelihoods in nats."""
    losses: Array = -np.log(_positive(probability[np.arange(len(label)), label]))
    return losses


def calibrate(predictions: Predictions, strategy: str, bootstrap: Bootstrap) -> Calibration:
    """Return the calibration of `strategy` before and after cross-fitted temperature scaling.

    The intervals do not include the uncertainty of the temperatures.
    """
    temperatures, scaled = cross_scaled(predictions, strategy)
    before = calibration_quality(predictions.label, predictions.probability[strategy], bootstrap)
    return Calibration(strategy, temperatures, before, calibration_quality(predictions.label, scaled, bootstrap))


def cross_scaled(predictions: Predictions, strategy: str) -> tuple[tuple[float, ...], Array]:
    """Return the temperature of each fold and (N, 7) probabilities, scaled at the temperature of the image's fold."""
    probability = predictions.probability[strategy]
    temperatures = fold_temperatures(probability, predictions.label, predictions.fold, predictions.folds)
    return tuple(map(float, temperatures)), scale(probability, temperatures[predictions.fold])


def calibration_quality(label: Array, probability: Array, bootstrap: Bootstrap) -> CalibrationQuality:
    """Return the quality of `probability` (N, 7) for images of `label` (N,)."""
    top, correct, covid, is_covid = _top_and_covid(label, probability)
    means = [
        brier_scores(label, probability),
        log_losses(label, probability),
        (covid - is_covid) ** 2,
        np.ones(len(label)),
    ]
    columns = np.column_stack([bin_gaps(top, correct), bin_gaps(covid, is_covid), *means])
    values, drawn = _from_totals(columns.sum(axis=0, keepdims=True))[0], _from_totals(bootstrap.totals(columns))
    top_ece, covid_ece = (error_interval(float(values[i]), drawn[:, i]) for i in (0, 1))
    brier, loss, covid_brier = (percentile_interval(float(values[i]), drawn[:, i], ratio=True) for i in (2, 3, 4))
    return CalibrationQuality(top_ece, brier, loss, covid_ece, covid_brier)


def reliability(label: Array, probability: Array, bootstrap: Bootstrap) -> Reliability:
    """Return the bins of `probability` (N, 7) for images of `label` (N,)."""
    top, correct, covid, is_covid = _top_and_covid(label, probability)
    return Reliability(reliability_bins(top, correct, bootstrap), reliability_bins(covid, is_covid, bootstrap))


def reliability_bins(stated: Array, occurred: Array, bootstrap: Bootstrap) -> tuple[Bin, ...]:
    """Return the bins with images; `stated` (N,) are probabilities, `occurred` (N,) bool."""
    positions = bin_of(stated)
    bins = []
    for position in range(BINS):
        inside = positions == position
        if inside.any():
            observed = bootstrap.rate(occurred, among=inside)
            edges = position / BINS, (position + 1) / BINS
            bins.append(Bin(*edges, int(inside.sum()), float(stated[inside].mean()), observed))
    return tuple(bins)


def bin_gaps(stated: Array, occurred: Array) -> Array:
    """Return (N, `BINS`): outcome (0 or 1) minus stated probability, in the column of the image's bin, else 0."""
    gaps = np.zeros((len(stated), BINS))
    gaps[np.arange(len(stated)), bin_of(stated)] = occurred - stated
    return gaps


def calibration_error(totals: Array, images: Array) -> Array:
    """Return (r,) expected calibration errors, 0 to 1: |stated − observed| per bin, averaged over images.

    `totals` (r, `BINS`) are sums of `bin_gaps` over `images` (r,).
    """
    errors: Array = np.abs(totals).sum(axis=1) / images
    return errors


def error_interval(value: float, replicates: Array) -> Interval:
    """Return the interval of a calibration error.

    Random variation makes the error larger than 0, and each replicate adds more of it. The bounds are therefore the
    percentiles mirrored at the value (basic bootstrap; Davison & Hinkley 1997, §5.2), clipped to include the value and
    to be at least 0. In simulations 95 % of the intervals contain a true error of 0.2 over 1,000 images, but only 70 %
    a true error of 0 over 300.
    """
    drawn = percentile_interval(value, replicates, ratio=True)
    if drawn.low is None or drawn.high is None:
        return drawn
    low, high = 2 * value - drawn.high, 2 * value - drawn.low
    return replace(drawn, low=max(0.0, min(value, low)), high=max(value, high))


def bin_of(stated: Array) -> Array:
    """Return (N,) positions of the bins; a probability of 1 belongs to the last."""
    bins: Array = np.minimum((stated * BINS).astype(int), BINS - 1)
    return bins


def _top_and_covid(label: Array, probability: Array) -> tuple[Array, Array, Array, Array]:
    """Probability and outcome, (N,) each, of the most probable class and of Covid19."""
    correct = probability.argmax(axis=1) == label
    return probability.max(axis=1), correct, probability[:, POSITIVE], label == POSITIVE


def _from_totals(totals: Array) -> Array:
    """(r, 5): both calibration errors, then the three means, from sums over images."""
    images = totals[:, -1]
    errors = [calibration_error(totals[:, part], images) for part in (slice(BINS), slice(BINS, 2 * BINS))]
    return np.column_stack([*errors, totals[:, 2 * BINS : -1] / images[:, None]])


def _logits(probability: Array) -> Array:
    logits: Array = np.log(_positive(probability))
    return logits


def _positive(probability: Array) -> Array:
    """Replace probabilities that float32 rounded to 0 by the smallest positive number."""
    positive: Array = np.maximum(np.asarray(probability, dtype=float), np.finfo(np.float32).tiny)
    return positive

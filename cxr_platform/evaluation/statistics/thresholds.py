"""Thresholds on the Covid19 probability for a target sensitivity, and their out-of-fold performance.

A threshold is tested on fold k after it was chosen, and its temperature fitted, on all other folds (cross-fitting), so
no image tests a threshold that it helped to choose. The threshold for later use is chosen on all folds
(`choose_thresholds`).
"""

import math
from dataclasses import dataclass

import numpy as np

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.predictions import POSITIVE, Array, Predictions
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from cxr_platform.evaluation.statistics.calibration import fit_temperature, scale

TARGETS = (0.90, 0.95, 0.99)
"""Target sensitivities, 0 to 1."""


@dataclass(frozen=True)
class ThresholdChoice:
    """Call an image Covid19 if its Covid19 probability, scaled at `temperature`, is at least `threshold`.

    `threshold` is from 0 to 1, or `None` if there was no Covid19 image to choose it on.
    """

    target: float
    temperature: float
    threshold: float | None


@dataclass(frozen=True)
class ThresholdPerformance:
    """Out-of-fold performance, in percent, of the cross-fitted thresholds for one target sensitivity.

    `change` is the specificity minus that of the rule without a threshold (Covid19 if it is the most probable class),
    in points. `by_fold` are the choices that were tested, one per fold. `for_use` was chosen on all folds, so no images
    are left to test it on.
    """

    target: float
    sensitivity: Interval
    specificity: Interval
    change: Interval
    by_fold: tuple[ThresholdChoice, ...]
    for_use: ThresholdChoice


def cross_fitted_thresholds(
    predictions: Predictions, strategy: str, bootstrap: Bootstrap, targets: tuple[float, ...] = TARGETS
) -> tuple[ThresholdPerformance, ...]:
    """Return one performance per target. The intervals do not include the uncertainty of the thresholds."""
    probability, label, fold = predictions.probability[strategy], predictions.label, predictions.fold
    folds = [choose_thresholds(probability[fold != k], label[fold != k], targets) for k in range(predictions.folds)]
    for_use = choose_thresholds(probability, label, targets)
    performances = []
    for i, target in enumerate(targets):
        by_fold = tuple(choices[i] for choices in folds)
        rates = _rates(probability, label, fold, by_fold, bootstrap)
        performances.append(ThresholdPerformance(target, *rates, by_fold, for_use[i]))
    return tuple(performances)


def choose_thresholds(
    probability: Array, label: Array, targets: tuple[float, ...] = TARGETS
) -> tuple[ThresholdChoice, ...]:
    """Return a choice per target from unscaled probabilities (N, 7) and labels (N,)."""
    temperature = fit_temperature(probability, label)
    scaled = scale(probability, temperature)[:, POSITIVE]
    positive = scaled[label == POSITIVE]
    return tuple(ThresholdChoice(target, temperature, highest_threshold(positive, target)) for target in targets)


def called_positive(probability: Array, choice: ThresholdChoice) -> Array:
    """Return (N,) bool: images that `choice` calls Covid19; none if it has no threshold."""
    called: Array = scale(probability, choice.temperature)[:, POSITIVE] >= (
        math.inf if choice.threshold is None else choice.threshold
    )
    return called


def highest_threshold(positive: Array, target: float) -> float | None:
    """Return the highest threshold that at least the share `target` of the scores `positive` (n,) reaches."""
    if not len(positive):
        return None
    needed = max(1, math.ceil(target * len(positive) - 1e-9))  # 0.55 × 100 is 55 images, not 56 by rounding error
    return float(np.sort(positive)[len(positive) - needed])


def _rates(
    probability: Array, label: Array, fold: Array, by_fold: tuple[ThresholdChoice, ...], bootstrap: Bootstrap
) -> tuple[Interval, Interval, Interval]:
    """Sensitivity, specificity and change of specificity over the folds that have a threshold."""
    called, tested = np.zeros(len(label), dtype=bool), np.zeros(len(label), dtype=bool)
    for k, choice in enumerate(by_fold):
        held_out = fold == k
        called[held_out] = called_positive(probability[held_out], choice)
        tested[held_out] = choice.threshold is not None
    positive, negative = tested & (label == POSITIVE), tested & (label != POSITIVE)
    most_probable = probability.argmax(axis=1) == POSITIVE
    return (
        bootstrap.rate(called, positive),
        bootstrap.rate(~called, negative),
        bootstrap.difference(~called, ~most_probable, negative),
    )

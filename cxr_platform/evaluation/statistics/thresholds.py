"""The operating point: from which Covid19 probability on an image is called Covid19, for a stated sensitivity.

A threshold is judged on a fold that had no part in choosing it: for fold k the temperature is fitted, and the threshold
chosen, on the images of all other folds. What a later user takes is chosen on all folds (`choose`).
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.predictions import Predictions
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from cxr_platform.evaluation.statistics.calibration import fit_temperature, scale
from cxr_platform.labels import CLASSES, POSITIVE_CLASS

if TYPE_CHECKING:
    import numpy as np

TARGETS = (0.90, 0.95, 0.99)
"""Sensitivities from 0 to 1."""


@dataclass(frozen=True)
class ThresholdChoice:
    """Call an image Covid19 where its Covid19 probability, scaled at `temperature`, is `threshold` or more.

    `threshold` is from 0 to 1, `None` where there was no Covid19 image to choose it on.
    """

    target: float
    temperature: float
    threshold: float | None


@dataclass(frozen=True)
class ThresholdPerformance:
    """One target: what the cross-fitted thresholds reach, in percent, and the change of specificity, in points,
    against calling an image Covid19 where that is its likeliest class. `by_fold` are the choices that are judged here;
    `for_use` was chosen on all folds and is judged nowhere."""

    target: float
    sensitivity: Interval
    specificity: Interval
    change: Interval
    by_fold: tuple[ThresholdChoice, ...]
    for_use: ThresholdChoice


def cross_fitted_thresholds(
    predictions: Predictions, strategy: str, bootstrap: Bootstrap, targets: tuple[float, ...] = TARGETS
) -> tuple[ThresholdPerformance, ...]:
    """One a target. The intervals are of the thresholds as chosen: choosing again is not part of them."""
    probability, label, fold = predictions.probability[strategy], predictions.label, predictions.fold
    folds = [choose_thresholds(probability[fold != k], label[fold != k], targets) for k in range(predictions.folds)]
    for_use = choose_thresholds(probability, label, targets)
    found = []
    for i, target in enumerate(targets):
        by_fold = tuple(choices[i] for choices in folds)
        rates = _achieved(probability, label, fold, by_fold, bootstrap)
        found.append(ThresholdPerformance(target, *rates, by_fold, for_use[i]))
    return tuple(found)


def choose_thresholds(
    probability: "np.ndarray", label: "np.ndarray", targets: tuple[float, ...] = TARGETS
) -> tuple[ThresholdChoice, ...]:
    """A choice for each target from probabilities (N, 7) as the networks gave them and labels (N,)."""
    covid, temperature = CLASSES.index(POSITIVE_CLASS), fit_temperature(probability, label)
    stated = scale(probability, temperature)[:, covid]
    return tuple(
        ThresholdChoice(target, temperature, highest_threshold(stated[label == covid], target)) for target in targets
    )


def called_positive(probability: "np.ndarray", choice: ThresholdChoice) -> "np.ndarray":
    """(N,) bool: images that `choice` calls Covid19; none where it has no threshold."""
    stated = scale(probability, choice.temperature)[:, CLASSES.index(POSITIVE_CLASS)]
    return stated >= (math.inf if choice.threshold is None else choice.threshold)


def highest_threshold(positive: "np.ndarray", target: float) -> float | None:
    """The highest threshold at which the share `target` of the scores `positive` (n,) is at it or above."""
    import numpy as np

    if not len(positive):
        return None
    needed = max(1, math.ceil(target * len(positive) - 1e-9))  # 0.95 × 20 is 19 images, not the 20 of its rounding
    return float(np.sort(positive)[len(positive) - needed])


def _achieved(
    probability: "np.ndarray",
    label: "np.ndarray",
    fold: "np.ndarray",
    by_fold: tuple[ThresholdChoice, ...],
    bootstrap: Bootstrap,
) -> tuple[Interval, Interval, Interval]:
    import numpy as np

    said, judged = np.zeros(len(label), dtype=bool), np.zeros(len(label), dtype=bool)
    for k, choice in enumerate(by_fold):
        held = fold == k
        said[held], judged[held] = called_positive(probability[held], choice), choice.threshold is not None
    covid = CLASSES.index(POSITIVE_CLASS)
    ill, well, likeliest = judged & (label == covid), judged & (label != covid), probability.argmax(axis=1) == covid
    return bootstrap.rate(said, ill), bootstrap.rate(~said, well), bootstrap.difference(~said, ~likeliest, well)

"""Measures out of many confusion matrices at once: one for each replicate, or each fold."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.metrics import Spread, spread
from cxr_platform.evaluation.predictions import Predictions
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap, percentile_interval
from cxr_platform.labels import CLASSES, POSITIVE_CLASS

if TYPE_CHECKING:
    import numpy as np

COUNTED = (
    "accuracy_7_class",
    "balanced_accuracy",
    "macro_f1",
    "accuracy_2_class",
    "sensitivity",
    "specificity",
)
"""The columns of `from_matrices`: percent, macro F1 from 0 to 1."""


def confusion_cells(label: "np.ndarray", predicted: "np.ndarray") -> "np.ndarray":
    """(N, 49) float32 with one 1 a row: the cell of the confusion matrix in which each image stands."""
    import numpy as np

    size = len(CLASSES)
    return np.eye(size * size, dtype=np.float32)[label * size + predicted]


def measures_of_matrices(matrices: "np.ndarray") -> "np.ndarray":
    """(r, 6) values of `COUNTED` out of (r, 7, 7) weighted counts, rows actual; NaN where undefined.

    Balanced accuracy and macro F1 are means over the classes that have images, as `balanced_accuracy_score`, and
    `f1_score` given those labels, of scikit-learn.
    """
    import numpy as np

    matrices = matrices.astype(float)
    right, actual, called = matrices.trace(axis1=1, axis2=2), matrices.sum(axis=2), matrices.sum(axis=1)
    whole, diagonal = actual.sum(axis=1), matrices.diagonal(axis1=1, axis2=2)
    covid = CLASSES.index(POSITIVE_CLASS)
    found, missed = diagonal[:, covid], actual[:, covid] - diagonal[:, covid]
    others, alarms = whole - actual[:, covid], called[:, covid] - diagonal[:, covid]
    with np.errstate(invalid="ignore", divide="ignore"):
        columns = [
            100 * right / whole,
            100 * _over_classes(diagonal / actual, actual),
            _over_classes(2 * diagonal / (actual + called), actual),
            100 * (whole - missed - alarms) / whole,
            100 * found / actual[:, covid],
            100 * (others - alarms) / others,
        ]
    return np.stack(columns, axis=1)


def _over_classes(values: "np.ndarray", actual: "np.ndarray") -> "np.ndarray":
    import numpy as np

    return np.where(actual > 0, values, 0).sum(axis=1) / (actual > 0).sum(axis=1)


# Areas under the curves of Covid19 against the rest, for many weightings of the same images at once.
# Both equal scikit-learn's `roc_auc_score` and `average_precision_score` with `sample_weight`; equal scores count as
# scikit-learn counts them. They are written out because 2,000 replicates of a study's images through scikit-learn, one by
# one, would take minutes for each strategy.


class RankedScores:
    """N images ordered once by `scores` (N,); `positive` (N,) bool says which are Covid19."""

    def __init__(self, scores: "np.ndarray", positive: "np.ndarray"):
        import numpy as np

        order = np.argsort(-scores, kind="stable")
        falling = -scores[order]  # ascending, which searchsorted asks for
        self._positives, self._negatives = order[positive[order]], order[~positive[order]]
        of_positives, of_negatives = falling[positive[order]], falling[~positive[order]]
        # For each positive image, how many negatives score higher, and how many as high or higher; likewise positives
        self._above = np.searchsorted(of_negatives, of_positives, side="left")
        self._level = np.searchsorted(of_negatives, of_positives, side="right")
        self._found = np.searchsorted(of_positives, of_positives, side="right")

    def areas(self, weights: "np.ndarray") -> "np.ndarray":
        """(r, 2): area under the ROC curve and average precision, for weights (r, N); NaN without images of a side."""
        import numpy as np

        positive = weights[:, self._positives].astype(float)
        below = _cumulated(weights[:, self._negatives])
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.stack([self._roc(positive, below), self._precision(positive, below)], axis=1)

    def _roc(self, positive: "np.ndarray", false: "np.ndarray") -> "np.ndarray":
        """The share of pairs in which the positive image scores higher; a tie counts half (Hanley & McNeil 1982)."""
        beaten_by = (false[:, self._above] + false[:, self._level]) / 2
        return 1 - (positive * beaten_by).sum(axis=1) / (positive.sum(axis=1) * false[:, -1])

    def _precision(self, positive: "np.ndarray", false: "np.ndarray") -> "np.ndarray":
        """Precision at the score of each positive image, averaged over them; undefined without a negative image."""
        import numpy as np

        true = _cumulated(positive)[:, self._found]
        called = true + false[:, self._level]
        precision = np.divide(true, called, out=np.zeros_like(true), where=called > 0)
        average = (positive * precision).sum(axis=1) / positive.sum(axis=1)
        return np.where(false[:, -1] > 0, average, np.nan)


def _cumulated(weights: "np.ndarray") -> "np.ndarray":
    """(r, n + 1) sums of the first 0 … n columns."""
    import numpy as np

    sums = np.zeros((weights.shape[0], weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=sums[:, 1:], dtype=float)
    return sums


# What a call of "Covid19" is worth where the disease is as frequent as stated.
# The share of Covid19 among a study's images is its makers' choice, so predictive values counted on them hold nowhere
# else. Bayes' rule gives them from sensitivity and specificity at a prevalence that is said (Altman & Bland 1994,
# BMJ 309:102).


PREVALENCES = (0.01, 0.05, 0.20)


def predictive_values(
    sensitivity: "np.ndarray", specificity: "np.ndarray", prevalence: float
) -> "tuple[np.ndarray, np.ndarray]":
    """PPV and NPV in percent from rates in percent, at `prevalence` from 0 to 1.

    NaN where there would be no call at all of that kind, or a rate is NaN.
    """
    import numpy as np

    found, missed = sensitivity * prevalence, (100 - sensitivity) * prevalence
    spared, alarms = specificity * (1 - prevalence), (100 - specificity) * (1 - prevalence)
    with np.errstate(invalid="ignore", divide="ignore"):
        return 100 * found / (found + alarms), 100 * spared / (spared + missed)


# All figures of merit of a study's strategies, pooled with bootstrap intervals and by fold.
# Rates are in percent, areas, F1 and Brier score from 0 up; undefined is `None`, as in `metrics`.


@dataclass(frozen=True)
class Measure:
    """How a measure is called, and whether it is a ratio (three decimals) or percent."""

    title: str
    ratio: bool = False


FIGURES_OF_MERIT: Mapping[str, Measure] = {
    "accuracy_7_class": Measure("7-class accuracy"),
    "balanced_accuracy": Measure("Balanced accuracy"),
    "macro_f1": Measure("Macro F1", ratio=True),
    "accuracy_2_class": Measure("Covid19 accuracy"),
    "sensitivity": Measure("Covid19 sensitivity"),
    "specificity": Measure("Covid19 specificity"),
    "roc_auc": Measure("Covid19 ROC AUC", ratio=True),
    "average_precision": Measure("Covid19 average precision", ratio=True),
    "brier": Measure("Brier score, seven classes", ratio=True),
}
"""The columns of `WeightedMeasures`, in their order: `COUNTED`, then what is computed from probabilities."""


COLUMNS = tuple(FIGURES_OF_MERIT)


@dataclass(frozen=True)
class Predictive:
    """PPV and NPV in percent where `prevalence` (0 to 1) of the images are Covid19; `own` marks the study's share."""

    prevalence: float
    ppv: Interval
    npv: Interval
    own: bool = False


@dataclass(frozen=True)
class StrategyMeasures:
    """One strategy: `pooled` over all images, `spread` over folds, both by the names in `FIGURES_OF_MERIT`."""

    strategy: str
    pooled: Mapping[str, Interval]
    spread: Mapping[str, Spread]
    predictive: tuple[Predictive, ...]


def strategy_measures(predictions: Predictions, strategy: str, bootstrap: Bootstrap) -> StrategyMeasures:
    """Every figure of merit of `strategy`; `bootstrap` is over the groups of `predictions`."""
    import numpy as np

    label, probability = predictions.label, predictions.probability[strategy]
    measure = WeightedMeasures(label, probability)
    everything = np.ones((1, len(label)), dtype=np.float32)
    one_fold = (predictions.fold == np.arange(predictions.folds)[:, None]).astype(np.float32)
    values, folds, replicates = measure(everything)[0], measure(one_fold), bootstrap.replicate(measure)
    pooled = {name: _interval(float(values[i]), replicates[:, i], bootstrap, name) for i, name in enumerate(COLUMNS)}
    pooled |= covid_rates(label, probability.argmax(axis=1), bootstrap)
    spreads = {name: _spread(folds[:, i], FIGURES_OF_MERIT[name].ratio) for i, name in enumerate(COLUMNS)}
    return StrategyMeasures(strategy, pooled, spreads, _predictive(label, pooled, replicates))


class WeightedMeasures:
    """The measures of one strategy as a function of weights (r, N) → (r, 9), in the order of `FIGURES_OF_MERIT`."""

    def __init__(self, label: "np.ndarray", probability: "np.ndarray"):
        covid = CLASSES.index(POSITIVE_CLASS)
        self._cells = confusion_cells(label, probability.argmax(axis=1))
        self._ranked = RankedScores(probability[:, covid], label == covid)
        self._brier = brier_scores(label, probability)

    def __call__(self, weights: "np.ndarray") -> "np.ndarray":
        """(r, 9) values, NaN where undefined."""
        import numpy as np

        size = len(CLASSES)
        counted = measures_of_matrices((weights @ self._cells).reshape(-1, size, size))
        with np.errstate(invalid="ignore"):
            brier = weights @ self._brier / weights.sum(axis=1, dtype=float)
        return np.column_stack([counted, self._ranked.areas(weights), brier])


def brier_scores(label: "np.ndarray", probability: "np.ndarray") -> "np.ndarray":
    """(N,) squared distances, 0 to 2, of each image's probabilities from its class (Brier 1950)."""
    import numpy as np

    return np.square(probability - np.eye(len(CLASSES))[label]).sum(axis=1)


def covid_rates(label: "np.ndarray", predicted: "np.ndarray", bootstrap: Bootstrap) -> dict[str, Interval]:
    """The four measures of §2.5 with `Bootstrap.rate`, which also bounds a rate of 0 or 100 %."""
    actual, said = label == CLASSES.index(POSITIVE_CLASS), predicted == CLASSES.index(POSITIVE_CLASS)
    return {
        "accuracy_7_class": bootstrap.rate(predicted == label),
        "accuracy_2_class": bootstrap.rate(said == actual),
        "sensitivity": bootstrap.rate(said, among=actual),
        "specificity": bootstrap.rate(~said, among=~actual),
    }


def _interval(value: float, replicates: "np.ndarray", bootstrap: Bootstrap, name: str) -> Interval:
    ratio = FIGURES_OF_MERIT[name].ratio
    if math.isnan(value) or bootstrap.groups < 2:
        return Interval(None if math.isnan(value) else value, ratio=ratio)
    return percentile_interval(value, replicates, ratio=ratio)


def _spread(folds: "np.ndarray", ratio: bool) -> Spread:
    defined = (None if math.isnan(value) else float(value) for value in folds)
    return replace(spread(defined), ratio=ratio)


def _predictive(
    label: "np.ndarray", pooled: Mapping[str, Interval], replicates: "np.ndarray"
) -> tuple[Predictive, ...]:
    """PPV and NPV from the sensitivity and specificity of each replicate; the prevalence is a premise and stays."""
    rates = pooled["sensitivity"], pooled["specificity"]
    drawn = replicates[:, COLUMNS.index("sensitivity")], replicates[:, COLUMNS.index("specificity")]
    own = float((label == CLASSES.index(POSITIVE_CLASS)).mean())
    at = [*((prevalence, False) for prevalence in PREVALENCES), (own, True)]
    return tuple(Predictive(prevalence, *_worth(rates, drawn, prevalence), is_own) for prevalence, is_own in at)


def _worth(
    rates: tuple[Interval, Interval], drawn: "tuple[np.ndarray, np.ndarray]", prevalence: float
) -> tuple[Interval, Interval]:
    """PPV and NPV at `prevalence`. A rate of 0 or 100 % is that in every replicate, which would make them certain;
    then their bounds are those that the bounds of both rates give, both values rising with both rates."""
    import numpy as np

    sensitivity, specificity = (np.array([r.value, r.low, r.high], dtype=float) for r in rates)  # None as NaN
    values = predictive_values(sensitivity, specificity, prevalence)
    replicates = predictive_values(*drawn, prevalence=prevalence)
    extreme = bool({0.0, 100.0} & {sensitivity[0], specificity[0]})
    ppv, npv = (_around(v, r, by_bounds=extreme) for v, r in zip(values, replicates, strict=True))
    return ppv, npv


def _around(values: "np.ndarray", replicates: "np.ndarray", *, by_bounds: bool) -> Interval:
    """The first of `values` (3,); between the others if `by_bounds`, else with percentiles of `replicates`."""
    value, low, high = map(float, values)
    if math.isnan(value) or math.isnan(low) or math.isnan(high):
        return Interval(None if math.isnan(value) else value)
    return Interval(value, low, high) if by_bounds else percentile_interval(value, replicates)

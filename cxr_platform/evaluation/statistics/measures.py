"""Measures of a strategy's predictions, over all images with bootstrap intervals and per fold.

Each measure is computed for r weightings of the N images at once: a bootstrap replicate weights an image by how often
it was drawn, a fold by 0 or 1. Rates are in percent; areas under curves, F1 and Brier score are ratios. An undefined
value is NaN in arrays and `None` in results.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.metrics import Spread, spread
from cxr_platform.evaluation.predictions import POSITIVE, Array, Predictions
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap, constant_area, percentile_interval
from cxr_platform.labels import CLASSES


@dataclass(frozen=True)
class Measure:
    """Title of a measure, and whether it is a ratio (printed with three decimals) or a percentage."""

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
"""The columns of `WeightedMeasures`, in order: those of the confusion matrix, then those of the probabilities."""

COLUMNS = tuple(FIGURES_OF_MERIT)
MATRIX_MEASURES = COLUMNS[:6]
"""The columns of `measures_of_matrices`."""
PREVALENCES = (0.01, 0.05, 0.20)
"""Shares of Covid19, 0 to 1, for which predictive values are reported."""


@dataclass(frozen=True)
class Predictive:
    """PPV and NPV in percent at a `prevalence` of Covid19 from 0 to 1; `own` is True if that is the study's own."""

    prevalence: float
    ppv: Interval
    npv: Interval
    own: bool = False


@dataclass(frozen=True)
class StrategyMeasures:
    """Measures of one strategy by the names in `FIGURES_OF_MERIT`: `pooled` over all images, `spread` over folds."""

    strategy: str
    pooled: Mapping[str, Interval]
    spread: Mapping[str, Spread]
    predictive: tuple[Predictive, ...]


def strategy_measures(predictions: Predictions, strategy: str, bootstrap: Bootstrap) -> StrategyMeasures:
    """Return all measures of `strategy`; `bootstrap` is over the groups of `predictions`."""
    label, probability = predictions.label, predictions.probability[strategy]
    measure = WeightedMeasures(label, probability)
    all_images = np.ones((1, len(label)), dtype=np.float32)
    by_fold = (predictions.fold == np.arange(predictions.folds)[:, None]).astype(np.float32)
    values, folds, replicates = measure(all_images)[0], measure(by_fold), bootstrap.replicate(measure)
    pooled = {name: _interval(float(values[i]), replicates[:, i], bootstrap, name) for i, name in enumerate(COLUMNS)}
    # These four replace the percentile intervals, which do not exist where a rate is 0 or 100 %.
    pooled |= covid_rates(label, probability.argmax(axis=1), bootstrap)
    spreads = {name: _spread(folds[:, i], FIGURES_OF_MERIT[name].ratio) for i, name in enumerate(COLUMNS)}
    return StrategyMeasures(strategy, pooled, spreads, _predictive(label, pooled, replicates))


class WeightedMeasures:
    """The measures of one strategy as a function of weights (r, N) → (r, 9), in the order of `FIGURES_OF_MERIT`."""

    def __init__(self, label: Array, probability: Array) -> None:
        self._cells = confusion_cells(label, probability.argmax(axis=1))
        self._ranked = RankedScores(probability[:, POSITIVE], label == POSITIVE)
        self._brier = brier_scores(label, probability)

    def __call__(self, weights: Array) -> Array:
        """Return (r, 9) values, NaN where undefined."""
        size = len(CLASSES)
        from_matrices = measures_of_matrices((weights @ self._cells).reshape(-1, size, size))
        with np.errstate(invalid="ignore"):
            brier = weights @ self._brier / weights.sum(axis=1, dtype=float)
        return np.column_stack([from_matrices, self._ranked.areas(weights), brier])


def confusion_cells(label: Array, predicted: Array) -> Array:
    """Return (N, 49) float32, one-hot: the cell of the confusion matrix of each image."""
    size = len(CLASSES)
    cells: Array = np.eye(size * size, dtype=np.float32)[label * size + predicted]
    return cells


def measures_of_matrices(matrices: Array) -> Array:
    """Return (r, 6) values of `MATRIX_MEASURES` from (r, 7, 7) weighted counts, rows actual; NaN where undefined.

    Balanced accuracy and macro F1 are means over the classes with images, as scikit-learn's `balanced_accuracy_score`,
    and `f1_score` with those labels.
    """
    matrices = matrices.astype(float)
    correct, actual, predicted = matrices.trace(axis1=1, axis2=2), matrices.sum(axis=2), matrices.sum(axis=1)
    whole, diagonal = actual.sum(axis=1), matrices.diagonal(axis1=1, axis2=2)
    true_positive = diagonal[:, POSITIVE]
    false_negative = actual[:, POSITIVE] - true_positive
    negative, false_positive = whole - actual[:, POSITIVE], predicted[:, POSITIVE] - true_positive
    with np.errstate(invalid="ignore", divide="ignore"):
        columns = [
            100 * correct / whole,
            100 * _mean_over_classes(diagonal / actual, actual),
            _mean_over_classes(2 * diagonal / (actual + predicted), actual),
            100 * (whole - false_negative - false_positive) / whole,
            100 * true_positive / actual[:, POSITIVE],
            100 * (negative - false_positive) / negative,
        ]
    return np.stack(columns, axis=1)


class RankedScores:
    """ROC AUC and average precision of Covid19 against the rest, for many weightings of N images.

    The results equal scikit-learn's `roc_auc_score` and `average_precision_score` with `sample_weight`, ties included.
    The images are sorted by score once; scikit-learn would sort them for each of 2,000 replicates, which takes minutes
    per strategy.
    """

    def __init__(self, scores: Array, positive: Array) -> None:
        order = np.argsort(-scores, kind="stable")
        falling = -scores[order]  # ascending, as searchsorted requires
        self._positives, self._negatives = order[positive[order]], order[~positive[order]]
        of_positives, of_negatives = falling[positive[order]], falling[~positive[order]]
        # For each positive image, the number of: negatives that score higher; negatives that score higher or the same;
        # positives that score higher or the same, itself included.
        self._negatives_above = np.searchsorted(of_negatives, of_positives, side="left")
        self._negatives_at = np.searchsorted(of_negatives, of_positives, side="right")
        self._positives_at = np.searchsorted(of_positives, of_positives, side="right")

    def areas(self, weights: Array) -> Array:
        """Return (r, 2) ROC AUC and average precision for weights (r, N); NaN without positive or negative images."""
        positive = weights[:, self._positives].astype(float)
        negative_sums = _cumulative(weights[:, self._negatives])
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.stack([self._roc_auc(positive, negative_sums), self._precision(positive, negative_sums)], axis=1)

    def _roc_auc(self, positive: Array, negative_sums: Array) -> Array:
        """Share of pairs in which the positive image scores higher; a tie counts half (Hanley & McNeil 1982)."""
        misranked = (negative_sums[:, self._negatives_above] + negative_sums[:, self._negatives_at]) / 2
        area: Array = 1 - (positive * misranked).sum(axis=1) / (positive.sum(axis=1) * negative_sums[:, -1])
        return area

    def _precision(self, positive: Array, negative_sums: Array) -> Array:
        """Precision at the score of each positive image, averaged over them."""
        true = _cumulative(positive)[:, self._positives_at]
        called = true + negative_sums[:, self._negatives_at]
        precision = np.divide(true, called, out=np.zeros_like(true), where=called > 0)
        average = (positive * precision).sum(axis=1) / positive.sum(axis=1)
        return np.where(negative_sums[:, -1] > 0, average, np.nan)


def paired_auc(scores: Array, positive: Array, negative: Array, stratum: Array, bootstrap: Bootstrap) -> Interval:
    """Return the share of pairs, a positive and a negative image of one stratum, in which the positive scores higher.

    All arrays are (N,); ties count half. Undefined without such a pair.
    """
    values = np.unique(stratum[positive | negative])
    return mean_auc(scores, [(positive & (stratum == v), negative & (stratum == v)) for v in values], bootstrap)


class ScoresInParts:
    """ROC AUC of `scores` (N,) averaged over `parts`, each its positive and negative images: bool (N,).

    Parts count by `shares`, or by their pairs; one without pairs is left out.
    """

    def __init__(
        self, scores: Array, parts: Sequence[tuple[Array, Array]], shares: Sequence[float] | None = None
    ) -> None:
        self._parts: list[tuple[Array, Array, RankedScores, float | None]] = []
        each_share: Sequence[float | None] = shares or [None] * len(parts)
        for (positive, negative), share in zip(parts, each_share, strict=True):
            if positive.any() and negative.any():
                rows = np.flatnonzero(positive | negative)
                self._parts.append((rows, positive[rows], RankedScores(scores[rows], positive[rows]), share))

    def areas(self, weights: Array) -> Array:
        """Return (r,) areas for weights (r, N); NaN without pairs."""
        ranked, whole = np.zeros(len(weights)), np.zeros(len(weights))
        for rows, is_positive, scored, share in self._parts:
            drawn = weights[:, rows].astype(float)
            pairs = drawn[:, is_positive].sum(axis=1) * drawn[:, ~is_positive].sum(axis=1)
            count = pairs if share is None else np.where(pairs > 0, share, 0.0)
            ranked += np.where(pairs > 0, np.nan_to_num(scored.areas(drawn)[:, 0]) * count, 0)
            whole += count
        with np.errstate(invalid="ignore"):
            return np.asarray(ranked / whole)


def mean_auc(
    scores: Array, parts: Sequence[tuple[Array, Array]], bootstrap: Bootstrap, shares: Sequence[float] | None = None
) -> Interval:
    """Return the ROC AUC of `ScoresInParts`; undefined if no part has pairs. One of 0 or 1 is a `constant_area`."""
    in_parts = ScoresInParts(scores, parts, shares)
    value = float(in_parts.areas(np.ones((1, len(scores)), np.float32))[0])
    sides = (bootstrap.groups_among(np.any([part[side] for part in parts], axis=0)) for side in (0, 1))
    if (constant := constant_area(value, sides)) is not None:
        return constant
    if bootstrap.groups < 2:
        return Interval(value, ratio=True)
    return percentile_interval(value, bootstrap.replicate(in_parts.areas), ratio=True)


def brier_scores(label: Array, probability: Array) -> Array:
    """Return (N,) squared distances, 0 to 2, of each image's probabilities from its class (Brier 1950)."""
    scores: Array = np.square(probability - np.eye(len(CLASSES))[label]).sum(axis=1)
    return scores


def covid_rates(label: Array, predicted: Array, bootstrap: Bootstrap) -> dict[str, Interval]:
    """Return the four measures of the paper (§2.5) by `Bootstrap.rate`, which gives 0 and 100 % an interval too."""
    actual, called = label == POSITIVE, predicted == POSITIVE
    return {
        "accuracy_7_class": bootstrap.rate(predicted == label),
        "accuracy_2_class": bootstrap.rate(called == actual),
        "sensitivity": bootstrap.rate(called, among=actual),
        "specificity": bootstrap.rate(~called, among=~actual),
    }


def predictive_values(sensitivity: Array, specificity: Array, prevalence: float) -> tuple[Array, Array]:
    """Return PPV and NPV in percent from rates in percent by Bayes' rule, at `prevalence` from 0 to 1.

    Predictive values counted on a study's images would apply nowhere else, because the share of Covid19 among them was
    chosen (Altman & Bland 1994, BMJ 309:102). NaN where no image would be called positive (or negative), or a rate is
    NaN.
    """
    true_positive, false_negative = sensitivity * prevalence, (100 - sensitivity) * prevalence
    true_negative, false_positive = specificity * (1 - prevalence), (100 - specificity) * (1 - prevalence)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (
            100 * true_positive / (true_positive + false_positive),
            100 * true_negative / (true_negative + false_negative),
        )


def _predictive(label: Array, pooled: Mapping[str, Interval], replicates: Array) -> tuple[Predictive, ...]:
    """PPV and NPV from the sensitivity and specificity of each replicate; the prevalence is fixed."""
    rates = pooled["sensitivity"], pooled["specificity"]
    drawn = replicates[:, COLUMNS.index("sensitivity")], replicates[:, COLUMNS.index("specificity")]
    own = float((label == POSITIVE).mean())
    prevalences = [*((prevalence, False) for prevalence in PREVALENCES), (own, True)]
    return tuple(
        Predictive(prevalence, *_predictive_intervals(rates, drawn, prevalence), is_own)
        for prevalence, is_own in prevalences
    )


def _predictive_intervals(
    rates: tuple[Interval, Interval], drawn: tuple[Array, Array], prevalence: float
) -> tuple[Interval, Interval]:
    """PPV and NPV at `prevalence`, with the percentiles of the replicates `drawn` as bounds.

    Where a rate is 0 or 100 %, it is the same in every replicate, and percentiles would leave out its uncertainty. The
    lower bounds are then computed from the lower bounds of both rates, the upper ones from the upper: PPV and NPV rise
    with sensitivity and with specificity.
    """
    sensitivity, specificity = (np.array([r.value, r.low, r.high], dtype=float) for r in rates)  # None as NaN
    values = predictive_values(sensitivity, specificity, prevalence)
    replicates = predictive_values(*drawn, prevalence=prevalence)
    extreme = bool({0.0, 100.0} & {sensitivity[0], specificity[0]})

    def interval(bounds: Array, drawn_values: Array) -> Interval:
        value, low, high = map(float, bounds)
        if math.isnan(value) or math.isnan(low) or math.isnan(high):
            return Interval(None if math.isnan(value) else value)
        return Interval(value, low, high) if extreme else percentile_interval(value, drawn_values)

    return interval(values[0], replicates[0]), interval(values[1], replicates[1])


def _interval(value: float, replicates: Array, bootstrap: Bootstrap, name: str) -> Interval:
    ratio = FIGURES_OF_MERIT[name].ratio
    if math.isnan(value) or bootstrap.groups < 2:
        return Interval(None if math.isnan(value) else value, ratio=ratio)
    return percentile_interval(value, replicates, ratio=ratio)


def _spread(folds: Array, ratio: bool) -> Spread:
    defined = (None if math.isnan(value) else float(value) for value in folds)
    return replace(spread(defined), ratio=ratio)


def _mean_over_classes(values: Array, actual: Array) -> Array:
    mean: Array = np.where(actual > 0, values, 0).sum(axis=1) / (actual > 0).sum(axis=1)
    return mean


def _cumulative(weights: Array) -> Array:
    """Return (r, n + 1): sums of the first 0, 1, … n columns of `weights` (r, n)."""
    sums = np.zeros((weights.shape[0], weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=sums[:, 1:], dtype=float)
    return sums

"""The indeterminate zone around a threshold, and the out-of-fold rates of decisions with it.

The zone is the 95 % confidence interval of the threshold over resampled patients. It is judged as the threshold is: for
fold k both are chosen on the images of all other folds and applied to those of fold k.
"""

import math

import numpy as np

from cxr_platform.domain.operating_point import DecisionRates, Zone, is_negative, is_positive
from cxr_platform.evaluation.predictions import POSITIVE, Array, Predictions
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap, percentile_interval
from cxr_platform.evaluation.statistics.calibration import scale
from cxr_platform.evaluation.statistics.thresholds import ThresholdPerformance


def threshold_zone(scores: Array, positive: Array, threshold: float, target: float, bootstrap: Bootstrap) -> Zone:
    """Return the 95 % confidence interval of `threshold` for the sensitivity `target` over bootstrap draws of patients.

    `scores` (N,) are Covid19 probabilities at the temperature in use, which stays fixed; `positive` (N,) marks Covid19
    images. If every draw gives the same threshold, both ends are that threshold.
    """

    def statistic(weights: Array) -> Array:
        return weighted_thresholds(scores[positive], weights[:, positive], target)

    interval = percentile_interval(threshold, bootstrap.replicate(statistic))
    if interval.low is None or interval.high is None:
        return threshold, threshold
    return min(interval.low, threshold), max(interval.high, threshold)


def weighted_thresholds(scores: Array, weights: Array, target: float) -> Array:
    """Return `thresholds.highest_threshold` of `scores` (n,) per row of `weights` (r, n).

    The result is (r,), with NaN for a row of zeros.
    """
    order = np.argsort(-scores, kind="stable")
    counted = np.cumsum(weights[:, order], axis=1, dtype=float)
    drawn = counted[:, -1]
    needed = np.maximum(1, np.ceil(target * drawn - 1e-9))
    reached = np.argmax(counted >= needed[:, None], axis=1)
    return np.where(drawn > 0, scores[order][reached], math.nan)


def decision_rates(
    predictions: Predictions, strategy: str, performance: ThresholdPerformance, bootstrap: Bootstrap
) -> DecisionRates:
    """Return the rates of decisions by the threshold and the zone that were chosen without the image's fold.

    Of a strategy with a gate, images whose answer is indeterminate there are so here, whatever their probability.
    """
    probability, label, fold = predictions.probability[strategy], predictions.label, predictions.fold
    calls = np.zeros(len(label), dtype=int)  # 1 positive, −1 negative, 0 indeterminate
    judged = np.zeros(len(label), dtype=bool)
    for k, choice in enumerate(performance.by_fold):
        if choice.threshold is None:
            continue
        held_out, scores = fold == k, scale(probability, choice.temperature)[:, POSITIVE]
        others = Bootstrap(predictions.group_id[~held_out], bootstrap.replicates, bootstrap.seed)
        zone = threshold_zone(scores[~held_out], label[~held_out] == POSITIVE, choice.threshold, choice.target, others)
        fold_calls = is_positive(scores, zone).astype(int) - is_negative(scores, zone)
        calls[held_out], judged[held_out] = fold_calls[held_out], True
    if strategy in predictions.indeterminate:
        calls[predictions.indeterminate[strategy]] = 0
    covid, other = judged & (label == POSITIVE), judged & (label != POSITIVE)
    return DecisionRates(
        true_positive=bootstrap.rate(calls > 0, covid),
        false_negative=bootstrap.rate(calls < 0, covid),
        true_negative=bootstrap.rate(calls < 0, other),
        false_positive=bootstrap.rate(calls > 0, other),
        indeterminate=bootstrap.rate(calls == 0, judged),
    )

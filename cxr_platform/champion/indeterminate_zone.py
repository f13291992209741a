"""The zone in which nothing is decided, and what deciding with it comes to.

The zone is what other patients would have made of the threshold. It is judged as the threshold is: for fold k both are
chosen on the images of all other folds, and applied to those of fold k.
"""

import math
from typing import TYPE_CHECKING

from cxr_platform.domain.operating_point import DecisionRates, Zone, is_negative, is_positive
from cxr_platform.evaluation.predictions import Predictions
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap, percentile_interval
from cxr_platform.evaluation.statistics.calibration import scale
from cxr_platform.evaluation.statistics.thresholds import ThresholdPerformance
from cxr_platform.labels import CLASSES, POSITIVE_CLASS

if TYPE_CHECKING:
    import numpy as np

COVID = CLASSES.index(POSITIVE_CLASS)


def threshold_zone(
    scores: "np.ndarray", positive: "np.ndarray", threshold: float, target: float, bootstrap: Bootstrap
) -> Zone:
    """The 95 % interval of `threshold` for the sensitivity `target`, over other draws of patients.

    `scores` (N,) are Covid19 probabilities at the temperature in use, which is held; `positive` (N,) are the Covid19
    images. Where every draw gives the same threshold, the zone is that point.
    """

    def statistic(weights: "np.ndarray") -> "np.ndarray":
        return weighted_thresholds(scores[positive], weights[:, positive], target)

    found = percentile_interval(threshold, bootstrap.replicate(statistic))
    if found.low is None or found.high is None:
        return threshold, threshold
    return min(found.low, threshold), max(found.high, threshold)


def weighted_thresholds(scores: "np.ndarray", weights: "np.ndarray", target: float) -> "np.ndarray":
    """`operating_point.highest_threshold` of `scores` (n,), each counted as `weights` (r, n) say: (r,), NaN where
    nothing was drawn."""
    import numpy as np

    order = np.argsort(-scores, kind="stable")
    counted = np.cumsum(weights[:, order], axis=1, dtype=float)
    drawn = counted[:, -1]
    needed = np.maximum(1, np.ceil(target * drawn - 1e-9))
    reached = np.argmax(counted >= needed[:, None], axis=1)
    return np.where(drawn > 0, scores[order][reached], math.nan)


def decision_rates(
    predictions: Predictions, strategy: str, point: ThresholdPerformance, bootstrap: Bootstrap
) -> DecisionRates:
    """What is decided of each image by the threshold and the zone that were chosen without its fold."""
    import numpy as np

    probability, label, fold = predictions.probability[strategy], predictions.label, predictions.fold
    called, judged = np.zeros(len(label), dtype=int), np.zeros(len(label), dtype=bool)
    for k, choice in enumerate(point.by_fold):
        if choice.threshold is not None:
            held, scores = fold == k, scale(probability, choice.temperature)[:, COVID]
            others = Bootstrap(predictions.group_id[~held], bootstrap.replicates, bootstrap.seed)
            zone = threshold_zone(scores[~held], label[~held] == COVID, choice.threshold, choice.target, others)
            said = is_positive(scores, zone).astype(int) - is_negative(scores, zone)
            called[held], judged[held] = said[held], True
    return _rates(called, judged, label == COVID, bootstrap)


def _rates(called: "np.ndarray", judged: "np.ndarray", ill: "np.ndarray", bootstrap: Bootstrap) -> DecisionRates:
    """`called` (N,): 1 positive, −1 negative, 0 neither."""
    covid, others = judged & ill, judged & ~ill
    return DecisionRates(
        true_positive=bootstrap.rate(called > 0, covid),
        false_negative=bootstrap.rate(called < 0, covid),
        true_negative=bootstrap.rate(called < 0, others),
        false_positive=bootstrap.rate(called > 0, others),
        indeterminate=bootstrap.rate(called == 0, judged),
    )

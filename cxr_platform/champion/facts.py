"""What is known of a strategy before its champion has seen a single new film: the study's out-of-fold figures.

Everything is computed by the functions of the report from the same predictions, so that card and report agree to the
last digit. Nothing is measured on films that a network was trained on.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cxr_platform.errors import NotPossible, StudyError
from cxr_platform.evaluation.interval import Interval
from cxr_platform.evaluation.outcome import Outcome, study_outcome
from cxr_platform.evaluation.predictions import Predictions
from cxr_platform.evaluation.statistics.measures import StrategyMeasures, strategy_measures
from cxr_platform.evaluation.statistics.operating_point import OperatingPoint, operating_points
from cxr_platform.evaluation.statistics.resampling import Bootstrap, percentile_interval, study_bootstrap
from cxr_platform.evaluation.statistics.temperature import scale
from cxr_platform.evaluation.study import Study
from cxr_platform.labels import CLASSES, POSITIVE_CLASS

if TYPE_CHECKING:
    import numpy as np

TARGET_SENSITIVITY = 0.95


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """One strategy of a study. `winner` are the measures of the strategy that won, where that is another one.

    `zone` is the 95 % interval of `threshold`, both on the Covid19 probability at `temperature`; `undecided` is the
    percentage of out-of-fold films that lie in it. `probabilities` (N, 7) are at `temperature`, in the order of the
    predictions.
    """

    strategy: str
    outcome: Outcome
    measures: StrategyMeasures
    winner: StrategyMeasures | None
    point: OperatingPoint
    temperature: float
    threshold: float
    zone: tuple[float, float]
    undecided: Interval
    probabilities: "np.ndarray"


def out_of_fold(
    study: Study, predictions: Predictions, strategy: str, target_sensitivity: float = TARGET_SENSITIVITY
) -> OutOfFold:
    """The facts of `strategy`.

    Raises `StudyError` where the study does not have it, `NotPossible` where fewer than two patients with Covid19 leave
    no operating point to be chosen.
    """
    check_strategy(study, strategy)
    bootstrap, outcome = study_bootstrap(study, predictions), study_outcome(study, predictions)
    point = operating_points(predictions, strategy, bootstrap, (target_sensitivity,))[0]
    temperature, winner = point.for_use.temperature, outcome.verdict.winner
    probabilities = scale(predictions.probability[strategy], temperature)
    positive = predictions.label == CLASSES.index(POSITIVE_CLASS)
    threshold = _checked_threshold(point, predictions, positive)
    scores = probabilities[:, CLASSES.index(POSITIVE_CLASS)]
    low, high = threshold_zone(scores, positive, threshold, target_sensitivity, bootstrap)
    return OutOfFold(
        strategy=strategy,
        outcome=outcome,
        measures=strategy_measures(predictions, strategy, bootstrap),
        winner=None if winner == strategy else strategy_measures(predictions, winner, bootstrap),
        point=point,
        temperature=temperature,
        threshold=threshold,
        zone=(low, high),
        undecided=bootstrap.rate((scores >= low) & (scores <= high)),
        probabilities=probabilities,
    )


def check_strategy(study: Study, strategy: str) -> None:
    """Raises `StudyError` with the strategies that there are where `strategy` is not one of them."""
    if strategy not in study.strategies:
        raise StudyError(
            f"Expected a strategy of study {study.name!r}: {', '.join(study.strategies)}.",
            received=repr(strategy),
            advice=f"Choose one of them, or run cross_validate --name {study.name} --strategies {strategy} first: "
            "without out-of-fold predictions nobody knows how good a champion is.",
        )


def threshold_zone(
    scores: "np.ndarray", positive: "np.ndarray", threshold: float, target: float, bootstrap: Bootstrap
) -> tuple[float, float]:
    """The 95 % interval of `threshold` for the sensitivity `target`, over other draws of patients.

    `scores` (N,) are Covid19 probabilities at the temperature in use, which is held; `positive` (N,) are the Covid19
    films. Where every draw gives the same threshold, the zone is that point.
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


def _checked_threshold(point: OperatingPoint, predictions: Predictions, positive: "np.ndarray") -> float:
    patients = len(set(predictions.group_id[positive]))
    if point.for_use.threshold is None or patients < 2:
        raise NotPossible(
            f"Expected {POSITIVE_CLASS} films of at least two patients to choose an operating point on.",
            received=f"{patients}",
            advice=f"Build a manifest with films of {POSITIVE_CLASS} and run the study on it.",
        )
    return point.for_use.threshold

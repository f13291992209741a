"""What is known of a strategy before its champion has seen a single new image: the study's out-of-fold figures.

Everything is computed by the functions of the report from the same predictions, so that model card and report agree to the
last digit. Nothing is measured on images that a network was trained on.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cxr_platform.champion.indeterminate_zone import decision_rates, threshold_zone
from cxr_platform.domain.operating_point import DecisionRates
from cxr_platform.domain.study import StudyRecord
from cxr_platform.errors import NotPossible, StudyError
from cxr_platform.evaluation.predictions import Predictions
from cxr_platform.evaluation.statistics.bootstrap import study_bootstrap
from cxr_platform.evaluation.statistics.calibration import scale
from cxr_platform.evaluation.statistics.measures import StrategyMeasures, strategy_measures
from cxr_platform.evaluation.statistics.thresholds import ThresholdPerformance, cross_fitted_thresholds
from cxr_platform.evaluation.study_results import StudyResults, compute_study_results
from cxr_platform.labels import CLASSES, POSITIVE_CLASS

if TYPE_CHECKING:
    import numpy as np

TARGET_SENSITIVITY = 0.95


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """One strategy of a study. `winner` are the measures of the strategy that won, where that is another one.

    `zone` is the 95 % interval of `threshold`, both on the Covid19 probability at `temperature`; `decisions` are
    the cross-fitted rates of this rule. `probabilities` (N, 7) are at `temperature`, in the order of the predictions.
    """

    strategy: str
    outcome: StudyResults
    measures: StrategyMeasures
    winner: StrategyMeasures | None
    point: ThresholdPerformance
    temperature: float
    threshold: float
    zone: tuple[float, float]
    decisions: DecisionRates
    probabilities: "np.ndarray"


def out_of_fold(
    study: StudyRecord, predictions: Predictions, strategy: str, target_sensitivity: float = TARGET_SENSITIVITY
) -> OutOfFold:
    """The facts of `strategy`.

    Raises `StudyError` where the study does not have it, `NotPossible` where fewer than two patients with Covid19 leave
    no operating point to be chosen.
    """
    check_strategy(study, strategy)
    bootstrap, outcome = study_bootstrap(study, predictions), compute_study_results(study, predictions)
    point = cross_fitted_thresholds(predictions, strategy, bootstrap, (target_sensitivity,))[0]
    temperature, winner = point.for_use.temperature, outcome.decision.winner
    probabilities = scale(predictions.probability[strategy], temperature)
    positive = predictions.label == CLASSES.index(POSITIVE_CLASS)
    threshold = _checked_threshold(point, predictions, positive)
    scores = probabilities[:, CLASSES.index(POSITIVE_CLASS)]
    return OutOfFold(
        strategy=strategy,
        outcome=outcome,
        measures=strategy_measures(predictions, strategy, bootstrap),
        winner=None if winner == strategy else strategy_measures(predictions, winner, bootstrap),
        point=point,
        temperature=temperature,
        threshold=threshold,
        zone=threshold_zone(scores, positive, threshold, target_sensitivity, bootstrap),
        decisions=decision_rates(predictions, strategy, point, bootstrap),
        probabilities=probabilities,
    )


def check_strategy(study: StudyRecord, strategy: str) -> None:
    """Raises `StudyError` with the strategies that there are where `strategy` is not one of them."""
    if strategy not in study.strategies:
        raise StudyError(
            f"Expected a strategy of study {study.name!r}: {', '.join(study.strategies)}.",
            received=repr(strategy),
            advice=f"Choose one of them, or run cross_validate --name {study.name} --strategies {strategy} first: "
            "without out-of-fold predictions nobody knows how good a champion is.",
        )


def _checked_threshold(point: ThresholdPerformance, predictions: Predictions, positive: "np.ndarray") -> float:
    patients = len(set(predictions.group_id[positive]))
    if point.for_use.threshold is None or patients < 2:
        raise NotPossible(
            f"Expected {POSITIVE_CLASS} images of at least two patients to choose an operating point on.",
            received=f"{patients}",
            advice=f"Build a manifest with images of {POSITIVE_CLASS} and run the study on it.",
        )
    return point.for_use.threshold

"""Out-of-fold performance of the strategy that a champion is trained with: rates, temperature and operating point.

Computed by the functions of the report from the same predictions, so that model card and report agree to the last
digit. No network is judged on images that it was trained on.
"""

from dataclasses import dataclass

from cxr_platform.champion.indeterminate_zone import decision_rates, threshold_zone
from cxr_platform.domain.operating_point import DecisionRule, OperatingPoint
from cxr_platform.domain.prediction_set import PredictionSets
from cxr_platform.domain.study import StudyRecord
from cxr_platform.errors import NotPossible, StudyError
from cxr_platform.evaluation.predictions import POSITIVE, Array, Predictions
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap, study_bootstrap
from cxr_platform.evaluation.statistics.calibration import scale
from cxr_platform.evaluation.statistics.measures import StrategyMeasures, strategy_measures
from cxr_platform.evaluation.statistics.prediction_sets import prediction_sets
from cxr_platform.evaluation.statistics.thresholds import (
    ThresholdChoice,
    ThresholdPerformance,
    cross_fitted_thresholds,
)
from cxr_platform.evaluation.study_results import StudyResults, compute_study_results
from cxr_platform.labels import POSITIVE_CLASS

TARGET_SENSITIVITY = 0.95


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """Out-of-fold performance of `strategy`; `winner` are the measures of the study's winner if that is another one.

    `threshold_performance` has the choices per fold. `operating_point` is for use: threshold and zone are chosen on all
    folds, for probabilities at `temperature`, and its rates are cross-fitted, as are those of `prediction_sets`.
    `probabilities` (N, 7) are at `temperature`, in the order of the predictions.
    """

    strategy: str
    results: StudyResults
    measures: StrategyMeasures
    winner: StrategyMeasures | None
    threshold_performance: ThresholdPerformance
    temperature: float
    operating_point: OperatingPoint
    prediction_sets: PredictionSets
    probabilities: Array


def out_of_fold(
    study: StudyRecord, predictions: Predictions, strategy: str, target_sensitivity: float = TARGET_SENSITIVITY
) -> OutOfFold:
    """Return the performance of `strategy`, with the operating point for `target_sensitivity` (0 to 1).

    Raise `StudyError` if the study does not have the strategy, `NotPossible` if there are Covid19 images of fewer than
    two patients.
    """
    check_strategy(study, strategy)
    bootstrap, results = study_bootstrap(study, predictions), compute_study_results(study, predictions)
    performance = cross_fitted_thresholds(predictions, strategy, bootstrap, (target_sensitivity,))[0]
    rule, temperature = (
        decision_rule(predictions, strategy, performance.for_use, bootstrap),
        performance.for_use.temperature,
    )
    probabilities, winner = scale(predictions.probability[strategy], temperature), results.decision.winner
    return OutOfFold(
        strategy=strategy,
        results=results,
        measures=strategy_measures(predictions, strategy, bootstrap),
        winner=None if winner == strategy else strategy_measures(predictions, winner, bootstrap),
        threshold_performance=performance,
        temperature=temperature,
        operating_point=OperatingPoint(
            **dict(rule),
            sensitivity=performance.sensitivity,
            specificity=performance.specificity,
            decisions=decision_rates(predictions, strategy, performance, bootstrap),
        ),
        prediction_sets=prediction_sets(predictions, strategy, bootstrap),
        probabilities=probabilities,
    )


def decision_rule(
    predictions: Predictions, strategy: str, choice: ThresholdChoice, bootstrap: Bootstrap
) -> DecisionRule:
    """Return the rule for probabilities of `strategy` at the temperature of `choice`, which was made on all folds.

    Raise `NotPossible` if there are Covid19 images of fewer than two patients.
    """
    positive = predictions.label == POSITIVE
    patients = len(set(predictions.group_id[positive]))
    if choice.threshold is None or patients < 2:
        raise NotPossible(
            f"Expected {POSITIVE_CLASS} images of at least two patients to choose an operating point on.",
            received=f"{patients}",
            advice=f"Build a manifest with images of {POSITIVE_CLASS} and run the study on it.",
        )
    scores = scale(predictions.probability[strategy], choice.temperature)[:, POSITIVE]
    zone = threshold_zone(scores, positive, choice.threshold, choice.target, bootstrap)
    return DecisionRule(target_sensitivity=choice.target, threshold=choice.threshold, zone=zone)


def check_strategy(study: StudyRecord, strategy: str) -> None:
    """Raise `StudyError` with the strategies of the study if `strategy` is not one of them."""
    if strategy not in study.strategies:
        raise StudyError(
            f"Expected a strategy of study {study.name!r}: {', '.join(study.strategies)}.",
            received=repr(strategy),
            advice=f"Choose one of them, or run cross_validate --name {study.name} --strategies {strategy} first: "
            "a champion needs the out-of-fold predictions of its strategy.",
        )

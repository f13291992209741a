"""Out-of-fold performance is computed as in the report."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cxr_platform.champion.indeterminate_zone import decision_rates
from cxr_platform.champion.out_of_fold import OutOfFold, out_of_fold
from cxr_platform.domain.study import StudyRecord, read_study
from cxr_platform.errors import NotPossible, StudyError
from cxr_platform.evaluation.predictions import Predictions, load_predictions
from cxr_platform.evaluation.statistics.bootstrap import study_bootstrap
from cxr_platform.evaluation.statistics.calibration import fit_temperature, scale
from cxr_platform.evaluation.statistics.measures import FIGURES_OF_MERIT, strategy_measures
from cxr_platform.evaluation.statistics.prediction_sets import prediction_sets
from cxr_platform.evaluation.statistics.thresholds import cross_fitted_thresholds
from cxr_platform.labels import CLASSES
from tests.champion.builders import COUNTS, made, made_study

COVID = CLASSES.index("Covid19")


def opened(folder: Path) -> tuple[StudyRecord, Predictions]:
    study = read_study(folder)
    return study, load_predictions(folder, study)


def performance_of(strategy: str = "scratch", target: float = 0.95) -> OutOfFold:
    return out_of_fold(*opened(made().study), strategy, target)


def test_every_metric_is_that_of_the_report() -> None:
    study, predictions = opened(made().study)
    bootstrap = study_bootstrap(study, predictions)
    performance = performance_of()
    assert performance.measures == strategy_measures(predictions, "scratch", bootstrap)
    assert performance.measures.pooled.keys() == FIGURES_OF_MERIT.keys()
    assert performance.threshold_performance == cross_fitted_thresholds(predictions, "scratch", bootstrap, (0.95,))[0]


def test_temperature_and_threshold_are_chosen_on_all_folds() -> None:
    _, predictions = opened(made().study)
    performance, probability = performance_of(), predictions.probability["scratch"]
    assert performance.temperature == fit_temperature(probability, predictions.label)
    np.testing.assert_array_equal(performance.probabilities, scale(probability, performance.temperature))
    called = performance.probabilities[predictions.label == COVID, COVID] >= performance.operating_point.threshold
    assert called.mean() == 0.95


def test_prediction_sets_are_those_of_the_report() -> None:
    study, predictions = opened(made().study)
    sets = performance_of().prediction_sets
    assert sets == prediction_sets(predictions, "scratch", study_bootstrap(study, predictions))
    patients = {part.label: part.patients for part in sets.classes}  # groups are pairs of images
    assert patients == {label: COUNTS[label] // 2 for label in CLASSES}
    assert len(sets.not_stated) == 4


def test_the_zone_holds_the_threshold() -> None:
    performance = performance_of()
    low, high = performance.operating_point.zone
    assert 0 < low < performance.operating_point.threshold < high < 1


def test_decision_rates_are_of_rules_chosen_on_the_other_folds() -> None:
    study, predictions = opened(made().study)
    performance = performance_of()
    assert performance.operating_point.decisions == decision_rates(
        predictions, "scratch", performance.threshold_performance, study_bootstrap(study, predictions)
    )


def test_a_higher_target_has_a_lower_threshold() -> None:
    assert performance_of(target=0.99).operating_point.threshold < performance_of(target=0.8).operating_point.threshold


def test_the_measures_of_the_winner_are_included_if_it_is_another_strategy() -> None:
    assert performance_of("scratch").winner is None
    behind = performance_of("off-the-shelf")
    assert behind.winner is not None
    assert behind.winner.strategy == "scratch"
    assert behind.winner == performance_of("scratch").measures


def test_an_unknown_strategy_is_an_error_with_the_strategies_of_the_study() -> None:
    with pytest.raises(StudyError, match=r"'test': off-the-shelf, scratch\. Received: 'fine-tuning-3'"):
        performance_of("fine-tuning-3")


@pytest.mark.parametrize("images", [0, 2])
def test_without_two_patients_with_covid_there_is_no_operating_point(tmp_path: Path, images: int) -> None:
    study = made_study(tmp_path, Covid19=images)  # two images are one group
    with pytest.raises(NotPossible, match="at least two patients to choose an operating point on"):
        out_of_fold(*opened(study), "scratch")


def test_the_operating_point_does_not_depend_on_the_order_of_images() -> None:
    study, predictions = opened(made().study)
    order = np.random.default_rng(0).permutation(len(predictions.label))
    columns = {name: getattr(predictions, name)[order] for name in ("image_id", "group_id", "source", "label", "fold")}
    probability = {name: values[order] for name, values in predictions.probability.items()}
    shuffled = out_of_fold(study, replace(predictions, probability=probability, **columns), "scratch")
    assert shuffled.operating_point.zone == pytest.approx(performance_of().operating_point.zone)
    assert shuffled.operating_point.threshold == pytest.approx(performance_of().operating_point.threshold)

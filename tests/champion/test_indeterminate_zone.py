"""The zone is the confidence interval of the threshold; its decisions are judged on images that chose neither."""

from dataclasses import replace

import numpy as np
import pytest

from cxr_platform.champion.indeterminate_zone import decision_rates, threshold_zone, weighted_thresholds
from cxr_platform.domain.operating_point import DecisionRule
from cxr_platform.domain.study import StudyRecord, read_study
from cxr_platform.evaluation.predictions import POSITIVE, Predictions, load_predictions
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap, study_bootstrap
from cxr_platform.evaluation.statistics.calibration import scale
from cxr_platform.evaluation.statistics.thresholds import cross_fitted_thresholds, highest_threshold
from cxr_platform.serving.screener import decide
from tests.champion.builders import made

TARGET = 0.95


@pytest.fixture(scope="module")
def study() -> StudyRecord:
    return read_study(made().study)


@pytest.fixture(scope="module")
def predictions(study: StudyRecord) -> Predictions:
    return load_predictions(made().study, study)


def test_rates_are_those_of_the_servers_decisions_for_each_image(study: StudyRecord, predictions: Predictions) -> None:
    bootstrap = study_bootstrap(study, predictions)
    (point,) = cross_fitted_thresholds(predictions, "scratch", bootstrap, (TARGET,))
    decisions = np.empty(len(predictions.label), dtype=object)
    for k, choice in enumerate(point.by_fold):
        assert choice.threshold is not None
        scores = scale(predictions.probability["scratch"], choice.temperature)[:, POSITIVE]
        chosen_on = predictions.fold != k
        patients = Bootstrap(predictions.group_id[chosen_on], seed=bootstrap.seed)
        covid = predictions.label[chosen_on] == POSITIVE
        zone = threshold_zone(scores[chosen_on], covid, choice.threshold, TARGET, patients)
        rule = DecisionRule(target_sensitivity=TARGET, threshold=choice.threshold, zone=zone)
        decisions[~chosen_on] = [decide(score, rule) for score in scores[~chosen_on]]
    rates = decision_rates(predictions, "scratch", point, bootstrap)
    covid = predictions.label == POSITIVE
    assert rates.true_positive.value == pytest.approx(100 * np.mean(decisions[covid] == "positive"))
    assert rates.false_negative.value == pytest.approx(100 * np.mean(decisions[covid] == "negative"))
    assert rates.true_negative.value == pytest.approx(100 * np.mean(decisions[~covid] == "negative"))
    assert rates.false_positive.value == pytest.approx(100 * np.mean(decisions[~covid] == "positive"))
    assert rates.indeterminate.value == pytest.approx(100 * np.mean(decisions == "indeterminate"))
    assert rates.indeterminate.value > 0


def test_with_a_zone_fewer_images_are_called_positive_and_negative_than_by_the_threshold(
    study: StudyRecord, predictions: Predictions
) -> None:
    bootstrap = study_bootstrap(study, predictions)
    (point,) = cross_fitted_thresholds(predictions, "scratch", bootstrap, (TARGET,))
    rates = decision_rates(predictions, "scratch", point, bootstrap)
    values = (rates.true_positive.value, point.sensitivity.value, rates.true_negative.value, point.specificity.value)
    assert all(value is not None for value in values)
    assert values[0] < values[1]  # type: ignore[operator]
    assert values[2] < values[3]  # type: ignore[operator]


@pytest.mark.parametrize("target", [0.5, 0.9, 0.95, 1.0])
def test_weighted_thresholds_equal_the_highest_threshold_of_repeated_images(target: float) -> None:
    rng = np.random.default_rng(0)
    scores = rng.uniform(size=23).round(1)  # with ties
    weights = rng.integers(0, 4, (50, 23)).astype("float32")
    thresholds = weighted_thresholds(scores, weights, target)
    wanted = [highest_threshold(np.repeat(scores, row.astype(int)), target) for row in weights]
    np.testing.assert_array_equal(thresholds, wanted)


def test_a_bootstrap_draw_without_covid_images_has_no_threshold() -> None:
    assert np.isnan(weighted_thresholds(np.array([0.1, 0.2]), np.zeros((1, 2)), 0.95)).all()


def test_the_zone_covers_the_population_threshold_in_95_percent_of_samples() -> None:
    """300 draws of 60 patients with two alike images each; the true 80 % threshold of uniform scores is 0.2."""
    rng, held = np.random.default_rng(4), 0
    for seed in range(300):
        scores = np.repeat(rng.uniform(size=60), 2)
        positive, threshold = np.ones(120, bool), highest_threshold(scores, 0.8)
        assert threshold is not None
        bootstrap = Bootstrap(np.repeat(np.arange(60), 2), replicates=400, seed=seed)
        low, high = threshold_zone(scores, positive, threshold, 0.8, bootstrap)
        held += low <= 0.2 <= high
    assert 0.91 <= held / 300 <= 0.98


def test_the_zone_is_one_point_if_every_draw_gives_the_same_threshold() -> None:
    bootstrap = Bootstrap(np.arange(10), replicates=50)
    assert threshold_zone(np.full(10, 0.7), np.ones(10, bool), 0.7, 0.9, bootstrap) == (0.7, 0.7)


def test_patients_with_many_images_make_the_zone_wider() -> None:
    scores = np.sort(np.random.default_rng(2).uniform(size=80))
    positive, threshold = np.ones(80, bool), highest_threshold(scores, 0.9)
    assert threshold is not None
    zones = [
        threshold_zone(scores, positive, threshold, 0.9, Bootstrap(np.arange(80) // images, seed=1))
        for images in (1, 8)
    ]
    widths = [high - low for low, high in zones]
    assert widths[1] > 1.5 * widths[0]


def test_an_image_on_which_the_heads_of_a_gate_disagree_is_indeterminate_whatever_its_probability(
    study: StudyRecord, predictions: Predictions
) -> None:
    bootstrap = study_bootstrap(study, predictions)
    (point,) = cross_fitted_thresholds(predictions, "scratch", bootstrap, (TARGET,))
    third = np.arange(len(predictions.label)) % 3 == 0
    rates = [decision_rates(predictions, "scratch", point, bootstrap)]
    for disagreeing in (third, np.ones_like(third)):
        gated = replace(predictions, indeterminate={"scratch": disagreeing})
        rates.append(decision_rates(gated, "scratch", point, bootstrap))
    without, some, all_of_them = (each.indeterminate.value for each in rates)
    assert without is not None
    assert some is not None
    assert max(without, 100 * third.mean()) <= some < 100
    assert all_of_them == 100
    assert rates[2].true_positive.value == 0

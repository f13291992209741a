import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from cxr_platform.evaluation.statistics.calibration import calibrate, cross_scaled, quality, reliability
from cxr_platform.evaluation.statistics.reliability import reliability_bins
from cxr_platform.evaluation.statistics.resampling import Bootstrap
from tests.evaluation.statistics.made_up import overconfident, predictions_of


@pytest.fixture(scope="module")
def sure():
    label, probability = overconfident(3000, 2.5)
    return predictions_of(label, {"scratch": probability})


@pytest.fixture(scope="module")
def bootstrap(sure):
    return Bootstrap(sure.group_id, replicates=400)


def test_an_overconfident_strategy_is_calibrated_by_scaling(sure, bootstrap):
    found = calibrate(sure, "scratch", bootstrap)

    assert found.temperature == pytest.approx(2.5, rel=0.05)
    assert len(found.temperatures) == 3
    assert found.after.top_ece.high < found.before.top_ece.low
    assert found.after.log_loss.high < found.before.log_loss.low
    assert found.after.brier.value < found.before.brier.value
    assert found.after.covid_ece.value < found.before.covid_ece.value


def test_an_image_is_scaled_at_the_temperature_of_its_fold(sure):
    temperatures, scaled = cross_scaled(sure, "scratch")
    probability = sure.probability["scratch"]

    for k, temperature in enumerate(temperatures):
        powers = probability[sure.fold == k] ** (1 / temperature)
        assert scaled[sure.fold == k] == pytest.approx(powers / powers.sum(axis=1, keepdims=True))


def test_the_quality_is_scikit_learns(sure, bootstrap):
    label, probability = sure.label, sure.probability["scratch"]
    found = quality(label, probability, bootstrap)

    assert found.log_loss.value == pytest.approx(log_loss(label, probability, labels=range(7)))
    assert found.covid_brier.value == pytest.approx(brier_score_loss(label == 0, probability[:, 0]))
    assert found.brier.value == pytest.approx(((probability - np.eye(7)[label]) ** 2).sum(axis=1).mean())


def test_the_calibration_error_is_the_distance_of_the_bins(sure, bootstrap):
    label, probability = sure.label, sure.probability["scratch"]
    found, bins = quality(label, probability, bootstrap), reliability(label, probability, bootstrap)

    for error, parts in ((found.top_ece, bins.top), (found.covid_ece, bins.covid)):
        assert sum(b.images for b in parts) == len(label)
        by_hand = sum(b.images * abs(b.observed.value / 100 - b.stated) for b in parts) / len(label)
        assert error.value == pytest.approx(by_hand)
        assert error.low <= error.value <= error.high


def test_the_bins_are_of_the_likeliest_class_and_of_covid19(sure, bootstrap):
    label, probability = sure.label, sure.probability["scratch"]
    found = reliability(label, probability, bootstrap)

    assert found.top == reliability_bins(probability.max(axis=1), probability.argmax(axis=1) == label, bootstrap)
    assert found.covid == reliability_bins(probability[:, 0], label == 0, bootstrap)

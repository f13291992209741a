import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from cxr_platform.evaluation.statistics.calibration import (
    bin_gaps,
    bin_of,
    calibrate,
    calibration_error,
    calibration_quality,
    cross_scaled,
    error_interval,
    fit_temperature,
    fold_temperatures,
    log_losses,
    reliability,
    reliability_bins,
    scale,
)
from tests.evaluation.statistics.drawn_predictions import overconfident, predictions_of


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.8, 4.0])
def test_the_temperature_of_simulated_logits_is_recovered_within_5_percent(temperature):
    label, probability = overconfident(4000, temperature)

    assert fit_temperature(probability, label) == pytest.approx(temperature, rel=0.05)


def test_scaling_at_the_planted_temperature_gives_the_calibrated_probabilities_back():
    _, sure = overconfident(50, 3.0)
    _, calibrated = overconfident(50, 1.0)

    assert scale(sure, 3.0) == pytest.approx(calibrated)
    assert scale(sure, np.full(50, 3.0)) == pytest.approx(calibrated)
    assert (scale(sure, 3.0).argmax(axis=1) == sure.argmax(axis=1)).all()


def test_each_image_can_have_its_own_temperature():
    _, sure = overconfident(4, 2.0)
    mixed = scale(sure, np.array([1.0, 2.0, 1.0, 2.0]))

    assert mixed[::2] == pytest.approx(sure[::2])
    assert mixed[1::2] == pytest.approx(scale(sure, 2.0)[1::2])


def test_a_folds_temperature_never_sees_the_fold():
    label, probability = overconfident(900, 2.0)
    fold = np.arange(900) % 3
    honest = fold_temperatures(probability, label, fold, 3)
    spoilt = np.where(fold == 0, (label + 1) % 7, label)

    changed = fold_temperatures(probability, spoilt, fold, 3)

    assert changed[0] == honest[0]
    assert (changed[1:] != honest[1:]).all()


def test_probabilities_of_0_and_images_that_are_all_right_stay_finite():
    label = np.arange(70) % 7
    certain = np.eye(7)[label]

    assert np.isfinite(scale(certain, 2.0)).all()
    assert 0.04 < fit_temperature(0.9 * certain + 0.1 / 7, label) < 0.1
    assert 19 < fit_temperature(certain, (label + 1) % 7) < 21
    assert np.isfinite(log_losses((label + 1) % 7, certain)).all()


def test_log_losses_are_scikit_learns():
    label, probability = overconfident(200, 1.0)

    assert log_losses(label, probability).mean() == pytest.approx(log_loss(label, probability, labels=range(7)))


STATED = np.array([0.05, 0.05, 0.95, 0.99, 1.0, 0.92])


CAME_TRUE = np.array([False, True, True, True, False, True])


def test_bins_are_tenths_and_1_is_in_the_last():
    assert bin_of(np.array([0.0, 0.099, 0.1, 0.95, 1.0])).tolist() == [0, 0, 1, 9, 9]


def test_a_bin_has_the_observed_rate_of_its_images():
    low, high = reliability_bins(STATED, CAME_TRUE, Bootstrap(np.arange(6)))

    assert (low.low, low.high, low.images, low.stated, low.observed.value) == pytest.approx((0, 0.1, 2, 0.05, 50))
    assert (high.low, high.high, high.images, high.stated, high.observed.value) == pytest.approx((0.9, 1, 4, 0.965, 75))


def test_the_calibration_error_averages_the_bins_distances_over_images():
    totals = bin_gaps(STATED, CAME_TRUE).sum(axis=0, keepdims=True)

    by_hand = (2 * abs(0.5 - 0.05) + 4 * abs(0.75 - 0.965)) / 6
    assert calibration_error(totals, np.array([6])) == pytest.approx([by_hand])


def test_calibrated_probabilities_have_no_error():
    totals = bin_gaps(np.full(4, 0.75), np.array([True, True, True, False])).sum(axis=0, keepdims=True)

    assert calibration_error(totals, np.array([4])) == pytest.approx([0])


def test_the_interval_of_an_error_is_mirrored():
    replicates = np.linspace(0.04, 0.10, 1001)

    mirrored = error_interval(0.06, replicates)

    assert (mirrored.low, mirrored.high) == pytest.approx((0.12 - 0.0985, 0.12 - 0.0415))


def test_the_interval_of_an_error_holds_it_and_is_never_below_0():
    assert error_interval(0.01, np.linspace(0.02, 0.05, 1001)) == Interval(0.01, 0.0, 0.01, ratio=True)
    assert error_interval(0.01, np.full(100, 0.01)) == Interval(0.01, ratio=True)


@pytest.fixture(scope="module")
def sure():
    label, probability = overconfident(3000, 2.5)
    return predictions_of(label, {"scratch": probability})


@pytest.fixture(scope="module")
def bootstrap(sure):
    return Bootstrap(sure.group_id, replicates=400)


def test_an_overconfident_strategy_is_calibrated_by_scaling(sure, bootstrap):
    calibration = calibrate(sure, "scratch", bootstrap)

    assert calibration.temperature == pytest.approx(2.5, rel=0.05)
    assert len(calibration.temperatures) == 3
    assert calibration.after.top_ece.high < calibration.before.top_ece.low
    assert calibration.after.log_loss.high < calibration.before.log_loss.low
    assert calibration.after.brier.value < calibration.before.brier.value
    assert calibration.after.covid_ece.value < calibration.before.covid_ece.value


def test_an_image_is_scaled_at_the_temperature_of_its_fold(sure):
    temperatures, scaled = cross_scaled(sure, "scratch")
    probability = sure.probability["scratch"]

    for k, temperature in enumerate(temperatures):
        powers = probability[sure.fold == k] ** (1 / temperature)
        assert scaled[sure.fold == k] == pytest.approx(powers / powers.sum(axis=1, keepdims=True))


def test_the_quality_is_scikit_learns(sure, bootstrap):
    label, probability = sure.label, sure.probability["scratch"]
    calibration = calibration_quality(label, probability, bootstrap)

    assert calibration.log_loss.value == pytest.approx(log_loss(label, probability, labels=range(7)))
    assert calibration.covid_brier.value == pytest.approx(brier_score_loss(label == 0, probability[:, 0]))
    assert calibration.brier.value == pytest.approx(((probability - np.eye(7)[label]) ** 2).sum(axis=1).mean())


def test_the_calibration_error_is_the_distance_of_the_bins(sure, bootstrap):
    label, probability = sure.label, sure.probability["scratch"]
    calibration, bins = calibration_quality(label, probability, bootstrap), reliability(label, probability, bootstrap)

    for error, parts in ((calibration.top_ece, bins.top), (calibration.covid_ece, bins.covid)):
        assert sum(b.images for b in parts) == len(label)
        by_hand = sum(b.images * abs(b.observed.value / 100 - b.stated) for b in parts) / len(label)
        assert error.value == pytest.approx(by_hand)
        assert error.low <= error.value <= error.high


def test_the_bins_are_of_the_likeliest_class_and_of_covid19(sure, bootstrap):
    label, probability = sure.label, sure.probability["scratch"]
    calibration = reliability(label, probability, bootstrap)

    assert calibration.top == reliability_bins(probability.max(axis=1), probability.argmax(axis=1) == label, bootstrap)
    assert calibration.covid == reliability_bins(probability[:, 0], label == 0, bootstrap)

import numpy as np
import pytest

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.statistics.reliability import (
    bin_gaps,
    bin_of,
    calibration_error,
    error_interval,
    reliability_bins,
)
from cxr_platform.evaluation.statistics.resampling import Bootstrap

STATED = np.array([0.05, 0.05, 0.95, 0.99, 1.0, 0.92])
CAME_TRUE = np.array([False, True, True, True, False, True])


def test_bins_are_tenths_and_1_is_in_the_last():
    assert bin_of(np.array([0.0, 0.099, 0.1, 0.95, 1.0])).tolist() == [0, 0, 1, 9, 9]


def test_a_bin_says_how_often_its_probability_came_true():
    low, high = reliability_bins(STATED, CAME_TRUE, Bootstrap(np.arange(6)))

    assert (low.low, low.high, low.images, low.stated, low.observed.value) == pytest.approx((0, 0.1, 2, 0.05, 50))
    assert (high.low, high.high, high.images, high.stated, high.observed.value) == pytest.approx((0.9, 1, 4, 0.965, 75))


def test_the_calibration_error_averages_the_bins_distances_over_images():
    totals = bin_gaps(STATED, CAME_TRUE).sum(axis=0, keepdims=True)

    by_hand = (2 * abs(0.5 - 0.05) + 4 * abs(0.75 - 0.965)) / 6
    assert calibration_error(totals, np.array([6])) == pytest.approx([by_hand])


def test_probabilities_that_come_true_as_often_as_stated_have_no_error():
    totals = bin_gaps(np.full(4, 0.75), np.array([True, True, True, False])).sum(axis=0, keepdims=True)

    assert calibration_error(totals, np.array([4])) == pytest.approx([0])


def test_the_interval_of_an_error_is_mirrored_because_replicates_add_chance_to_it():
    replicates = np.linspace(0.04, 0.10, 1001)

    mirrored = error_interval(0.06, replicates)

    assert (mirrored.low, mirrored.high) == pytest.approx((0.12 - 0.0985, 0.12 - 0.0415))


def test_the_interval_of_an_error_holds_it_and_is_never_below_0():
    assert error_interval(0.01, np.linspace(0.02, 0.05, 1001)) == Interval(0.01, 0.0, 0.01, ratio=True)
    assert error_interval(0.01, np.full(100, 0.01)) == Interval(0.01, ratio=True)

import numpy as np
import pytest

from cxr_platform.evaluation.statistics.predictive import predictive_values


def test_a_good_test_for_a_rare_disease_is_mostly_wrong_when_it_says_yes():
    ppv, npv = predictive_values(np.array([90.0]), np.array([90.0]), 0.01)

    assert ppv[0] == pytest.approx(100 * 0.009 / (0.009 + 0.099))
    assert npv[0] == pytest.approx(100 * 0.891 / (0.891 + 0.001))


def test_at_the_share_of_the_images_themselves_they_are_what_counting_gives():
    tp, fn, fp, tn = 30, 10, 20, 140
    ppv, npv = predictive_values(np.array([100 * tp / (tp + fn)]), np.array([100 * tn / (tn + fp)]), 40 / 200)

    assert (ppv[0], npv[0]) == pytest.approx((100 * tp / (tp + fp), 100 * tn / (tn + fn)))


def test_the_worth_of_a_call_that_is_never_made_is_undefined():
    ppv, npv = predictive_values(np.array([0.0, 100.0]), np.array([100.0, 0.0]), 0.05)

    assert np.isnan(ppv).tolist() == [True, False]
    assert np.isnan(npv).tolist() == [False, True]

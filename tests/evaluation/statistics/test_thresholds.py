import numpy as np
import pytest

from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from cxr_platform.evaluation.statistics.thresholds import (
    called_positive,
    choose_thresholds,
    cross_fitted_thresholds,
    highest_threshold,
)
from tests.evaluation.statistics.drawn_predictions import overconfident, predictions_of

TARGET = (0.9,)


def points_of(label, probability, fold=None, targets=TARGET):
    predictions = predictions_of(label, {"scratch": probability}, fold=fold)
    return cross_fitted_thresholds(predictions, "scratch", Bootstrap(predictions.group_id, replicates=200), targets)


@pytest.fixture(scope="module")
def drawn():
    return overconfident(3000, 2.0)


@pytest.fixture(scope="module")
def folds():
    return np.arange(3000) // 2 % 3


def with_shifted_fold(label, probability, fold):
    """In fold 0 every image has a tenth of its Covid19 probability: a scanner that was new, say."""
    shifted = probability.copy()
    shifted[fold == 0, 0] *= 0.1
    shifted[fold == 0] /= shifted[fold == 0].sum(axis=1, keepdims=True)
    return shifted


@pytest.mark.parametrize(
    ("target", "threshold"), [(0.9, 0.2), (0.95, 0.1), (0.5, 0.6), (0.01, 1.0), (1.0, 0.1), (0.91, 0.1)]
)
def test_the_threshold_is_the_highest_that_finds_the_targets_share(target, threshold):
    assert highest_threshold(np.arange(10, 0, -1) / 10, target) == pytest.approx(threshold)


def test_a_share_of_images_that_is_a_whole_number_is_not_rounded_up():
    assert highest_threshold(np.arange(20.0), 0.95) == 1.0
    assert highest_threshold(np.arange(100.0), 0.07) == 93.0


def test_without_covid19_images_there_is_no_threshold_and_nothing_is_called(drawn):
    label, probability = drawn
    (choice,) = choose_thresholds(probability[label != 0], label[label != 0], TARGET)

    assert choice.threshold is None
    assert not called_positive(probability, choice).any()


def test_targets_are_about_reached_and_cost_more_the_higher_they_are(drawn):
    points = points_of(*drawn, targets=(0.9, 0.95, 0.99))

    for point in points:
        assert point.sensitivity.value == pytest.approx(100 * point.target, abs=2.5)
    assert points[0].specificity.value > points[1].specificity.value > points[2].specificity.value
    assert points[0].change.value > points[1].change.value > points[2].change.value
    assert points[2].change.high < 0


def test_the_change_of_specificity_is_against_calling_by_the_likeliest_class(drawn):
    label, probability = drawn
    likeliest = 100 * (probability.argmax(axis=1) != 0)[label != 0].mean()
    (point,) = points_of(label, probability)

    assert point.change.value == pytest.approx(point.specificity.value - likeliest)


def test_a_threshold_is_never_chosen_on_the_fold_that_tests_it(drawn, folds):
    label, probability = drawn
    (honest,) = points_of(label, probability, folds)
    (planted,) = points_of(label, with_shifted_fold(label, probability, folds), folds)

    assert planted.by_fold[0] == honest.by_fold[0]
    assert planted.by_fold[1] != honest.by_fold[1]
    assert planted.for_use != honest.for_use


def test_a_shifted_fold_shows_the_error_of_thresholds_from_other_folds(drawn, folds):
    label, probability = drawn
    shifted = with_shifted_fold(label, probability, folds)
    (point,) = points_of(label, shifted, folds)
    of_fold = (folds == 0) & (label == 0)

    rate = called_positive(shifted, point.by_fold[0])[of_fold].mean()
    (own,) = choose_thresholds(shifted[folds == 0], label[folds == 0], TARGET)
    by_its_own = called_positive(shifted, own)[of_fold].mean()

    assert rate < 0.6
    assert by_its_own >= 0.9  # what choosing on the fold itself would have claimed


def test_the_choice_for_use_is_made_on_all_images(drawn):
    label, probability = drawn
    (point,) = points_of(label, probability)

    assert (point.for_use,) == choose_thresholds(probability, label, TARGET)
    assert called_positive(probability, point.for_use)[label == 0].mean() >= 0.9


def test_covid19_images_in_a_single_fold_are_not_tested_by_their_own_threshold(drawn, folds):
    label, probability = drawn
    label = np.where((label == 0) & (folds != 1), 1, label)
    (point,) = points_of(label, probability, folds)

    assert point.by_fold[1].threshold is None
    assert point.by_fold[0].threshold is not None
    assert point.sensitivity.value is None
    assert point.specificity.value is not None

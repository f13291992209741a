import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, recall_score

from cxr_platform.domain.study import read_study
from cxr_platform.evaluation.metrics import (
    MEASURES,
    Spread,
    TwoClass,
    compute_metrics,
    confusion_matrix,
    difference,
    evaluate,
    folds_ahead,
    majority_accuracy,
    row_shares,
    source_counts,
    spread,
    two_class,
)
from cxr_platform.evaluation.predictions import load_predictions
from cxr_platform.labels import CLASSES
from tests.evaluation.builders import drawn_frame, write_study

positions = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=60)


@pytest.fixture(scope="module")
def predictions(tmp_path_factory):
    folder = write_study(tmp_path_factory.mktemp("study"), drawn_frame({"off-the-shelf": 0.5, "scratch": 0.9}))
    return load_predictions(folder, read_study(folder))


def test_the_matrix_has_actual_classes_in_rows_and_predicted_ones_in_columns():
    matrix = confusion_matrix(np.array([0, 0, 5]), np.array([0, 6, 5]))

    assert matrix.shape == (7, 7)
    assert (matrix[0, 0], matrix[0, 6], matrix[5, 5]) == (1, 1, 1)
    assert matrix[6, 0] == 0


@given(positions)
def test_figures_from_a_matrix_are_those_of_scikit_learn_from_predictions(pairs):
    actual, predicted = np.array(pairs).T
    ours = compute_metrics(confusion_matrix(actual, predicted))
    is_covid, called_covid = actual == 0, predicted == 0

    assert math.isclose(ours.accuracy_7_class, 100 * accuracy_score(actual, predicted))
    assert math.isclose(ours.accuracy_2_class, 100 * accuracy_score(is_covid, called_covid))
    if is_covid.any():
        assert math.isclose(ours.sensitivity, 100 * recall_score(is_covid, called_covid, zero_division=0))
    else:
        assert ours.sensitivity is None
    if (~is_covid).any():
        assert math.isclose(ours.specificity, 100 * recall_score(~is_covid, ~called_covid, zero_division=0))
    else:
        assert ours.specificity is None


def test_two_class_counts_a_wrong_non_covid_class_as_a_true_negative():
    matrix = np.zeros((7, 7), dtype=int)
    matrix[5, 6] = 3

    assert two_class(matrix) == TwoClass(tp=0, fp=0, fn=0, tn=3)
    assert compute_metrics(matrix).accuracy_7_class == 0
    assert compute_metrics(matrix).accuracy_2_class == 100


def test_two_class_matrix_has_rows_actual():
    assert TwoClass(tp=1, fp=2, fn=3, tn=4).matrix.tolist() == [[1, 3], [2, 4]]


def test_undefined_rates_are_none_and_not_zero():
    nothing = TwoClass(tp=0, fp=0, fn=0, tn=0)

    assert (nothing.accuracy, nothing.sensitivity, nothing.specificity) == (None, None, None)
    assert row_shares(np.zeros((2, 2), dtype=int)) == [[None, None], [None, None]]


def test_undefined_folds_do_not_enter_the_mean():
    assert spread([50.0, None, 100.0]) == Spread(mean=75.0, sd=pytest.approx(35.3553, abs=1e-4), defined=2, folds=3)


def test_a_spread_needs_one_value_for_a_mean_and_two_for_a_deviation():
    assert spread([80.0, None]) == Spread(mean=80.0, sd=None, defined=1, folds=2)
    assert spread([None, None]) == Spread(mean=None, sd=None, defined=0, folds=2)


def test_a_difference_with_something_undefined_is_undefined():
    assert difference(87.0, 80.0) == 7.0
    assert difference(None, 80.0) is None
    assert difference(87.0, None) is None


def test_row_shares_are_percent_of_the_actual_class():
    assert row_shares(np.array([[1, 3], [5, 5]])) == [[25.0, 75.0], [50.0, 50.0]]


def test_always_answering_the_largest_class_reaches_its_share():
    assert majority_accuracy(np.array([[2, 2], [1, 0]])) == 80.0


def test_every_image_is_counted_once_over_folds_and_pooled(predictions):
    result = evaluate(predictions, "scratch")

    assert sum(fold.matrix for fold in result.folds).tolist() == result.matrix.tolist()
    assert result.matrix.sum() == len(predictions.image_id)
    assert [fold.fold for fold in result.folds] == [0, 1, 2, 3, 4]


def test_means_are_over_folds_not_over_images(predictions):
    result = evaluate(predictions, "off-the-shelf")

    for measure in MEASURES:
        by_hand = np.mean([fold.metrics[measure] for fold in result.folds])
        assert result.mean[measure] == pytest.approx(by_hand)
        assert result.spread[measure].sd == pytest.approx(np.std([f.metrics[measure] for f in result.folds], ddof=1))


def test_folds_ahead_counts_strict_leads_in_both_directions(predictions):
    better, worse = evaluate(predictions, "scratch"), evaluate(predictions, "off-the-shelf")

    assert folds_ahead(better, worse) == 5
    assert folds_ahead(worse, better) == 0
    assert folds_ahead(better, better) == 0


def test_source_counts_leave_out_sources_without_the_class(predictions):
    counts = source_counts(predictions)

    assert list(counts) == list(CLASSES)
    assert counts["Covid19"].keys() == {"cohen", "actualmed"}
    assert counts["Pneumonia"] == {"kermany": 91}
    assert sum(n for by_source in counts.values() for n in by_source.values()) == len(predictions.image_id)

import numpy as np
import pytest
from scipy.stats import binomtest

from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from cxr_platform.evaluation.statistics.comparison import compare, holm, mcnemar_p
from tests.evaluation.statistics.drawn_predictions import drawn_labels, predictions_of


def answers(label: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.eye(7)[np.where(right, label, (label + 1) % 7)]


@pytest.fixture(scope="module")
def compared():
    label, random = drawn_labels(400), np.random.default_rng(0)
    right = random.random(400) < 0.8
    worse, level = right & (random.random(400) < 0.8), random.permutation(right)
    strategies = {"off-the-shelf": worse, "fine-tuning-1": level, "scratch": right}
    predictions = predictions_of(label, {name: answers(label, hits) for name, hits in strategies.items()})
    return strategies, compare(predictions, "scratch", Bootstrap(predictions.group_id))


def test_the_winner_is_compared_with_every_other_strategy(compared):
    assert [(c.winner, c.other) for c in compared[1]] == [("scratch", "off-the-shelf"), ("scratch", "fine-tuning-1")]


def test_only_a_real_difference_is_significant(compared):
    strategies, (worse, level) = compared

    assert worse.significant
    planted = strategies["scratch"].mean() - strategies["off-the-shelf"].mean()
    assert worse.difference.value == pytest.approx(100 * planted)
    assert level.difference.value == pytest.approx(0)
    assert not level.significant


def test_mcnemars_test_is_the_binomial_one_on_images_that_differ():
    first = np.array([True] * 12 + [False] * 3 + [True] * 20)
    second = np.array([False] * 12 + [True] * 3 + [True] * 20)

    assert mcnemar_p(first, second) == pytest.approx(binomtest(3, 15).pvalue)
    assert mcnemar_p(first, first) == 1


def test_holms_correction_multiplies_the_smallest_by_their_number():
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([]) == []


def test_p_values_are_corrected_over_all_comparisons(compared):
    worse, level = compared[1]

    assert worse.p_adjusted == pytest.approx(2 * worse.p_value)
    assert level.p_adjusted >= level.p_value


def test_a_single_strategy_has_no_comparison():
    label = drawn_labels(20)
    predictions = predictions_of(label, {"scratch": np.eye(7)[label]})

    assert compare(predictions, "scratch", Bootstrap(predictions.group_id)) == ()

import numpy as np
import pytest

from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from cxr_platform.evaluation.statistics.leakage import leakage, mean_difference, split_group_images
from tests.evaluation.statistics.drawn_predictions import drawn_labels, predictions_of

LABEL = drawn_labels(400)


def answers(right: np.ndarray) -> np.ndarray:
    return np.eye(7)[np.where(right, LABEL, (LABEL + 1) % 7)]


@pytest.fixture(scope="module")
def compared():
    random = np.random.default_rng(0)
    right = random.random(400) < 0.95
    lower = right & (random.random(400) < 0.8)
    paper = predictions_of(LABEL, {"scratch": answers(right), "off-the-shelf": answers(right)}, fold=np.arange(400) % 3)
    grouped = predictions_of(LABEL, {"scratch": answers(lower), "fine-tuning-1": answers(right)})
    return right, lower, paper, grouped, leakage(paper, grouped, Bootstrap(grouped.group_id))


def test_only_strategies_that_both_protocols_ran_are_compared(compared):
    assert [f.strategy for f in compared[-1]] == ["scratch"]


def test_the_difference_is_the_papers_protocol_less_the_grouped_one(compared):
    right, lower, _, _, (scratch,) = compared
    gap = scratch.difference["accuracy_7_class"]

    assert gap.value == pytest.approx(100 * (right.mean() - lower.mean()))
    assert gap.excludes_zero
    assert scratch.paper["accuracy_7_class"].value == pytest.approx(100 * right.mean())
    assert scratch.grouped["accuracy_7_class"].value == pytest.approx(100 * lower.mean())


@pytest.mark.parametrize("measure", ["accuracy_7_class", "sensitivity", "specificity"])
def test_each_difference_is_that_of_its_rates(compared, measure):
    (scratch,) = compared[-1]

    by_hand = scratch.paper[measure].value - scratch.grouped[measure].value
    assert scratch.difference[measure].value == pytest.approx(by_hand)


def test_sensitivity_is_of_covid19_images_and_specificity_of_the_others(compared):
    right, _, _, _, (scratch,) = compared

    assert scratch.paper["sensitivity"].value == pytest.approx(100 * right[LABEL == 0].mean())
    assert scratch.paper["specificity"].value == pytest.approx(100 * (right | (LABEL != 6))[LABEL != 0].mean())


def test_the_mean_over_strategies_is_of_those_that_both_ran(compared):
    right, lower, paper, grouped, (scratch,) = compared
    alone = mean_difference(paper, grouped, Bootstrap(grouped.group_id))
    assert alone["accuracy_7_class"] == scratch.difference["accuracy_7_class"]

    same = {"scratch": answers(lower), "off-the-shelf": answers(right)}
    two = mean_difference(paper, predictions_of(LABEL, same), Bootstrap(grouped.group_id))
    assert two["accuracy_7_class"].value == pytest.approx(50 * (right.mean() - lower.mean()))
    assert mean_difference(paper, predictions_of(LABEL, {}), Bootstrap(grouped.group_id)) == {}


def test_split_group_images_have_their_group_in_several_folds(compared):
    _, _, paper, grouped, _ = compared

    assert split_group_images(grouped) == 0
    assert split_group_images(paper) == 400  # pairs, dealt out one by one
    assert split_group_images(predictions_of(LABEL[:4], {}, fold=np.array([0, 1, 2, 2]))) == 2

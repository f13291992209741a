import json

import numpy as np
import pytest

from cxr_platform.evaluation.report_inputs import load_report_inputs
from cxr_platform.evaluation.results_json import plain
from cxr_platform.evaluation.sections.strategy_comparison import compare, compute, render
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from tests.evaluation.builders import drawn_frame, write_study
from tests.evaluation.statistics.drawn_predictions import drawn_labels, predictions_of


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    frame = drawn_frame({"off-the-shelf": 0.5, "fine-tuning-9": 0.89, "scratch": 0.9})
    return load_report_inputs(write_study(tmp_path_factory.mktemp("three"), frame, synthetic=True))


@pytest.fixture(scope="module")
def results(inputs):
    return compute(inputs)


def test_the_other_strategies_are_in_the_order_of_the_ranking(inputs, results):
    winner, *others = [result.strategy for result in inputs.results.ranking]

    assert [(c.winner, c.other) for c in results.comparisons] == [(winner, other) for other in others]


def test_the_text_names_significant_and_other_differences(inputs, results):
    sentence = render(inputs, results).lead[0]

    assert [c.significant for c in results.comparisons] == [False, True]
    assert "differs significantly from off-the-shelf features, but not from" in sentence
    assert sentence.endswith("this study does not decide which of these is the best strategy.")


def test_the_table_has_difference_tests_and_significance(inputs, results):
    (table,) = render(inputs, results).tables

    assert [row.values[3] for row in table.rows] == ["no", "yes"]
    assert table.rows[1].values[1:3] == ("p < 0.001", "p < 0.001")
    assert table.rows[0].values[0].signed
    assert table.synthetic


def test_the_text_states_the_limits_of_test_and_interval(inputs, results):
    made = render(inputs, results)

    assert "training again could reverse a small difference" in made.lead[2]
    assert "the images of a patient count together" in made.tables[0].note


def test_the_text_corrects_the_winner_s_accuracy_for_its_having_been_picked(inputs, results):
    sentence = render(inputs, results).lead[1].replace("\N{NO-BREAK SPACE}", " ")
    picked = results.picked

    assert picked.strategies == 3
    assert 0 < picked.optimism < 2
    assert sentence.startswith("The accuracy of the best of 3 strategies is too high")
    assert f"at {picked.optimism:.2f} points: {picked.measured.value:.2f} % were measured" in sentence
    assert f"and {picked.measured.value - picked.optimism:.2f} % (" in sentence


@pytest.mark.parametrize(
    ("accuracies", "sentence"),
    [
        (
            {"off-the-shelf": 0.5, "scratch": 0.9},
            "Training from scratch differs significantly from every other strategy.",
        ),
        (
            {"off-the-shelf": 0.9, "scratch": 0.9},
            " does not differ significantly from ",
        ),
    ],
)
def test_all_or_none_of_the_differences_are_significant(tmp_path, accuracies, sentence):
    inputs = load_report_inputs(write_study(tmp_path, drawn_frame(accuracies)))

    assert sentence in render(inputs, compute(inputs)).lead[0]


def test_the_values_are_plain_json(inputs, results):
    tree = json.loads(json.dumps(plain(render(inputs, results).values), allow_nan=False))

    assert [other["significant"] for other in tree["others"]] == [False, True]
    assert tree["picked"]["corrected"]["value"] < tree["picked"]["measured"]["value"]


def test_with_a_single_strategy_the_section_says_why_it_is_absent(tmp_path):
    inputs = load_report_inputs(write_study(tmp_path, drawn_frame({"scratch": 0.9})))
    made = render(inputs, compute(inputs))

    assert compute(inputs).picked is None
    assert made.absent.startswith("Only one strategy was run")
    assert made.tables == ()


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


def test_p_values_are_corrected_over_all_comparisons(compared):
    worse, level = compared[1]

    assert (worse.pairs, level.pairs) == (3, 3)
    assert worse.p_adjusted > worse.p_value
    assert level.p_adjusted >= level.p_value

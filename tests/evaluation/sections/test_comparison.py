import json

import pytest

from cxr_platform.evaluation.report_inputs import load_report_inputs
from cxr_platform.evaluation.results_json import plain
from cxr_platform.evaluation.sections.comparison import compute, render
from tests.evaluation.builders import drawn_frame, write_study


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    frame = drawn_frame({"off-the-shelf": 0.5, "fine-tuning-9": 0.89, "scratch": 0.9})
    return load_report_inputs(write_study(tmp_path_factory.mktemp("three"), frame, synthetic=True))


@pytest.fixture(scope="module")
def comparisons(inputs):
    return compute(inputs)


def test_the_other_strategies_are_in_the_order_of_the_ranking(inputs, comparisons):
    winner, *others = [result.strategy for result in inputs.results.ranking]

    assert [(c.winner, c.other) for c in comparisons] == [(winner, other) for other in others]


def test_the_text_names_significant_and_other_differences(inputs, comparisons):
    sentence = render(inputs, comparisons).lead[0]

    assert [c.significant for c in comparisons] == [False, True]
    assert "differs significantly from off-the-shelf features, but not from" in sentence
    assert sentence.endswith("this study does not decide which of these is the best strategy.")


def test_the_table_has_difference_tests_and_significance(inputs, comparisons):
    (table,) = render(inputs, comparisons).tables

    assert [row.values[3] for row in table.rows] == ["no", "yes"]
    assert table.rows[1].values[1:3] == ("p < 0.001", "p < 0.001")
    assert table.rows[0].values[0].signed
    assert table.synthetic


def test_the_text_states_the_limits_of_test_and_interval(inputs, comparisons):
    made = render(inputs, comparisons)

    assert "training again could reverse a small difference" in made.lead[1]
    assert "images one by one" in made.tables[0].note


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


def test_the_values_are_plain_json(inputs, comparisons):
    tree = json.loads(json.dumps(plain(render(inputs, comparisons).values), allow_nan=False))

    assert [other["significant"] for other in tree["others"]] == [False, True]


def test_with_a_single_strategy_the_section_says_why_it_is_absent(tmp_path):
    inputs = load_report_inputs(write_study(tmp_path, drawn_frame({"scratch": 0.9})))
    made = render(inputs, compute(inputs))

    assert made.absent.startswith("Only one strategy was run")
    assert made.tables == ()

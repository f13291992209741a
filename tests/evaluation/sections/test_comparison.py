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
def found(inputs):
    return compute(inputs)


def test_the_others_stand_in_the_order_of_the_ranking(inputs, found):
    winner, *others = [result.strategy for result in inputs.results.ranking]

    assert [(c.winner, c.other) for c in found] == [(winner, other) for other in others]


def test_who_is_told_apart_and_who_is_not_is_said(inputs, found):
    said = render(inputs, found).lead[0]

    assert [c.significant for c in found] == [False, True]
    assert "differs significantly from off-the-shelf features, but not from" in said
    assert said.endswith("this study does not decide which of these is the best strategy.")


def test_the_table_gives_difference_test_and_verdict(inputs, found):
    (table,) = render(inputs, found).tables

    assert [row.values[3] for row in table.rows] == ["no", "yes"]
    assert table.rows[1].values[1:3] == ("p < 0.001", "p < 0.001")
    assert table.rows[0].values[0].signed
    assert table.synthetic


def test_the_limits_of_test_and_interval_are_said(inputs, found):
    made = render(inputs, found)

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
def test_all_or_none_told_apart(tmp_path, accuracies, sentence):
    inputs = load_report_inputs(write_study(tmp_path, drawn_frame(accuracies)))

    assert sentence in render(inputs, compute(inputs)).lead[0]


def test_the_values_are_plain_json(inputs, found):
    tree = json.loads(json.dumps(plain(render(inputs, found).values), allow_nan=False))

    assert [other["significant"] for other in tree["others"]] == [False, True]


def test_a_single_strategy_leaves_the_section_out_with_its_reason(tmp_path):
    inputs = load_report_inputs(write_study(tmp_path, drawn_frame({"scratch": 0.9})))
    made = render(inputs, compute(inputs))

    assert made.absent.startswith("Only one strategy was run")
    assert made.tables == ()

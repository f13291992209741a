import json
from dataclasses import replace

import numpy as np
import pytest

from cxr_platform.evaluation.report_inputs import load_report_inputs
from cxr_platform.evaluation.results_json import plain
from cxr_platform.evaluation.sections.leakage import compute, leakage, mean_difference, render, split_group_images
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from cxr_platform.evaluation.study_results import compute_study_results
from tests.evaluation.builders import drawn, drawn_frame, image_frame, with_predictions, write_study
from tests.evaluation.statistics.drawn_predictions import drawn_labels, predictions_of

COUNTS = {"Covid19": 60, "Pneumonia": 120, "Normal": 180}


def write_both(folder, grouped=0.7, paper=0.95):
    """Write a grouped study, and one of the same images under the paper's protocol, which shuffles them one by one."""
    images = image_frame(COUNTS, 3)
    shuffled = images.assign(fold=range(len(images)))
    shuffled["fold"] %= 3
    ours = with_predictions(images, "scratch", drawn(images, grouped, 1))
    theirs = with_predictions(shuffled, "scratch", drawn(shuffled, paper, 2))
    study = write_study(folder / "test", ours)
    other = write_study(folder / "test-paper", theirs, protocol="paper")
    return study, other


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    study, other = write_both(tmp_path_factory.mktemp("both"))
    return load_report_inputs(study, other_folder=other)


def test_the_difference_is_paper_minus_grouped_accuracy(inputs):
    finding = compute(inputs).finding
    paper = load_accuracy(inputs.other[1])
    grouped = load_accuracy(inputs.predictions)

    assert finding.strategy == "scratch"
    assert finding.difference.value == pytest.approx(100 * (paper - grouped))
    assert finding.difference.excludes_zero


def load_accuracy(predictions) -> float:
    return (predictions.probability["scratch"].argmax(axis=1) == predictions.label).mean()


def test_the_difference_is_the_same_from_the_study_under_the_papers_protocol(inputs):
    other_study, other = inputs.other
    from_there = replace(inputs, study=other_study, predictions=other, other=(inputs.study, inputs.predictions))

    assert compute(from_there).finding == compute(inputs).finding


def test_the_text_counts_images_of_shared_groups_and_explains_the_difference(inputs):
    made = render(inputs, compute(inputs))

    assert "360 images of 360 were tested by a network that was trained on another image" in made.lead[0]
    assert "Images of one patient in both the training and the test set are the likely reason" in made.lead[1]
    assert "not that training again gives another network" in made.lead[2]
    assert made.warnings == ()


@pytest.mark.parametrize(
    ("grouped", "paper", "words"),
    [(0.8, 0.8, "by itself it neither shows leakage nor rules it out"), (0.95, 0.6, "which leakage cannot explain")],
)
def test_insignificant_and_negative_differences_are_no_leakage(tmp_path, grouped, paper, words):
    study, other = write_both(tmp_path, grouped, paper)
    inputs = load_report_inputs(study, other_folder=other)

    assert words in render(inputs, compute(inputs)).lead[1]


def test_without_shared_groups_a_difference_is_not_leakage(inputs):
    no_shared = replace(compute(inputs), shared=0)

    assert "No image has another image of its patient in another fold" in render(inputs, no_shared).lead[1]


def test_the_table_has_both_protocols_and_their_difference(inputs):
    (table,) = render(inputs, compute(inputs)).tables

    assert [row.labels[1] for row in table.rows] == ["paper", "grouped", "difference (points)"]
    assert table.columns == ("Accuracy 7-class (%)", "Sensitivity (%)", "Specificity (%)")
    assert all(value.signed for value in table.rows[2].values)


def test_several_strategies_have_a_mean_difference(inputs):
    doubled = {"scratch": inputs.predictions.probability["scratch"]}
    doubled["off-the-shelf"] = doubled["scratch"]
    study, other = inputs.study.model_copy(update={"strategies": tuple(doubled)}), inputs.other[1]
    both = dict.fromkeys(doubled, other.probability["scratch"])
    several = replace(
        inputs,
        study=study,
        predictions=replace(inputs.predictions, probability=doubled),
        results=compute_study_results(study, replace(inputs.predictions, probability=doubled)),
        other=(inputs.other[0], replace(other, probability=both)),
    )
    results = compute(several)
    made = render(several, results)

    assert results.finding.mean.value == pytest.approx(results.finding.difference.value)
    assert "On average over the 2 strategies" in made.lead[2]
    assert made.tables[0].rows[-1].labels == ("Mean over strategies", "difference (points)")
    assert compute(inputs).finding.mean is None


def test_studies_that_differ_in_more_than_the_protocol_give_a_warning(inputs):
    other_study, other = inputs.other
    longer = other_study.model_copy(update={"profile": replace(other_study.profile, seed=1)})
    unlike = replace(inputs, other=(longer, other))

    assert (
        render(unlike, compute(unlike))
        .warnings[0]
        .startswith("The two studies differ in more than the protocol (seed)")
    )


def test_the_values_are_plain_json(inputs):
    tree = json.loads(json.dumps(plain(render(inputs, compute(inputs)).values), allow_nan=False))

    assert tree["images_of_shared_groups"] == 360
    assert tree["strategies"]["scratch"]["difference"]["accuracy_7_class"]["low"] > 0


def test_without_the_other_protocol_the_section_says_how_to_get_it(tmp_path):
    inputs = load_report_inputs(write_study(tmp_path, drawn_frame({"scratch": 0.9})))
    results = compute(inputs)

    assert results is None
    assert "make cv-all PROTOCOL=both" in render(inputs, results).absent


def test_studies_without_a_common_strategy_cannot_be_compared(inputs):
    other_study, other = inputs.other
    renamed = replace(other, probability={"off-the-shelf": other.probability["scratch"]})
    apart = replace(inputs, other=(other_study, renamed))
    results = compute(apart)

    assert results.finding is None
    assert "no strategy in common" in render(apart, results).absent


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


def test_the_papers_tables_under_both_protocols_are_folded(inputs):
    names = [table.name for table in render(inputs, compute(inputs)).folded]
    assert names == ["table-5-by-protocol", "table-6-by-protocol", "table-7-by-protocol"]

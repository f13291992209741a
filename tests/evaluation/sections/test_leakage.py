import json
from dataclasses import replace

import pytest

from cxr_platform.evaluation.report_inputs import load_report_inputs
from cxr_platform.evaluation.results_json import plain
from cxr_platform.evaluation.sections.leakage import compute, render
from cxr_platform.evaluation.study_results import compute_study_results
from tests.evaluation.builders import drawn, drawn_frame, image_frame, with_predictions, write_study

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

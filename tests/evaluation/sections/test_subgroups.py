import json

import numpy as np
import pytest

from cxr_platform.evaluation.findings import SMALL
from cxr_platform.evaluation.sections import subgroups
from tests.evaluation.planted import predictions, report_inputs

NBSP = "\N{NO-BREAK SPACE}"
N = 240


def rendered(images):
    results = subgroups.compute(images)
    return subgroups.render(images, results)


@pytest.fixture(scope="module")
def section():
    """A study with half of the women's images wrong; one source has no ages, the other five images of children."""
    number = np.arange(N)
    label = np.where(number % 3, "Normal", "Covid19")
    sex = np.where(number % 2, "F", "M")
    answers = np.where((sex == "F") & (number % 4 == 1), "Edema", label)
    source = np.where(number < N // 2, "hospital", "chest_xray")
    age = np.where(number < N // 2, 50.0, np.nan)
    age[:5] = 10
    return rendered(report_inputs(predictions(source, label, answers), {"sex": sex, "age": age}))


def test_a_subgroup_of_lower_accuracy_is_named_with_its_interval(section):
    sentence = next(line for line in section.lead if line.startswith("Below that"))

    assert f"sex female, 50.00{NBSP}% (" in sentence
    assert "male," not in sentence.replace("female,", "")
    assert ["sex", "female"] in section.values["lower_than_overall"]


def test_subgroups_from_a_single_source_are_named(section):
    sentence = next(line for line in section.lead if line.startswith("View, sex and age differ"))

    assert "age 40–64 only from hospital" in sentence
    assert "age unknown only from chest_xray" in sentence
    assert "sex female only" not in sentence


def test_small_subgroups_are_marked_in_tables_and_picture(section):
    accuracy = section.tables[0]
    kinds = {row.labels: row.kind for row in accuracy.rows}

    assert kinds["age", "0–17"] == "small"
    assert kinds["age", "40–64"] == ""
    assert kinds["all", "all images"] == "total"
    assert f"fewer than {SMALL} images" in accuracy.note
    assert f"fewer than {SMALL} images" in section.pictures[0].caption


def test_each_rate_has_its_own_number_of_images(section):
    accuracy, sensitivity, specificity = (
        {row.labels: row.values for row in table.rows} for table in section.tables
    )  # fmt: skip

    for labels, values in sensitivity.items():
        assert values[0] + specificity[labels][0] == accuracy[labels][0]
    assert accuracy["all", "all images"][0] == N


def test_subgroups_without_an_image_of_a_rate_are_left_out_of_its_table():
    label = ["Covid19"] * 30 + ["Normal"] * 30
    section = rendered(report_inputs(predictions(["a"] * 30 + ["b"] * 30, label)))
    names = [[row.labels[1] for row in table.rows] for table in section.tables]

    assert names == [["a", "b", "all images"], ["a", "all images"], ["b", "all images"]]


def test_the_note_mentions_children_without_an_age(section):
    assert "children of one to five years" in section.tables[0].note


def test_the_alternative_text_contains_every_subgroup(section):
    for row in section.tables[0].rows[:-1]:
        assert f"{row.labels[0]} {row.labels[1]} " in section.pictures[0].alt


def test_the_values_are_plain_json(section):
    values = json.loads(json.dumps(section.values, allow_nan=False))

    assert values["overall"]["accuracy"]["images"] == N
    assert {part["by"] for part in values["parts"]} == {"source", "sex", "age"}


def test_without_a_manifest_the_images_are_divided_by_source_only():
    section = rendered(report_inputs(predictions(["a", "b"] * 30, ["Normal"] * 60)))

    assert {row.labels[0] for row in section.tables[0].rows} == {"source", "all"}
    assert any("view, sex and age, was not given" in line for line in section.lead)
    assert not any(line.startswith("View, sex and age differ") for line in section.lead)


def test_if_images_cannot_be_divided_the_section_says_why():
    scored = predictions(["only"] * 4, ["Normal", "Covid19"] * 2)

    assert "the manifest, which has view, sex and age, was not given" in rendered(report_inputs(scored)).absent
    assert "unknown or the same for all" in rendered(report_inputs(scored, {"view": ["PA"] * 4})).absent


def test_synthetic_images_are_marked():
    section = rendered(report_inputs(predictions(["a", "b"] * 5, ["Normal"] * 10), synthetic=True))

    assert section.pictures[0].alt.startswith("Synthetic images.")
    assert all(table.synthetic for table in (*section.tables, *section.folded))

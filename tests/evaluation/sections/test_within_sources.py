import json

from cxr_platform.evaluation.results_json import plain
from cxr_platform.evaluation.sections.within_sources import ABSENT, compute, render
from tests.evaluation.planted import predictions, report_inputs
from tests.evaluation.probed import with_evidence
from tests.evaluation.statistics.test_within_sources import by_source, contrast_frame


def rendered(inputs):
    return render(inputs, compute(inputs))


def test_a_network_that_goes_by_the_source_is_warned_of():
    section = rendered(report_inputs(predictions(*by_source()), synthetic=True))

    (warning,) = section.warnings
    assert warning.startswith(
        "Among the 20 other images of the sources that have Covid19 (covid), the AUC of Covid19 is 0.500"
    )
    assert "The figures are lower where the source does not help." in warning
    assert section.tables[1].rows[0].values[-1] == "yes"
    assert section.tables[0].synthetic


def test_classes_that_stand_out_have_no_warning_and_covid19_comes_first():
    source = ["a"] * 60 + ["b"] * 60
    label = ["Edema"] * 20 + ["Covid19"] * 20 + ["Normal"] * 80
    section = rendered(report_inputs(predictions(source, label)))

    assert section.warnings == ()
    assert section.lead[0].startswith("Among the 40 other images")
    assert [row.labels[0] for row in section.tables[0].rows] == ["Covid19", "Edema"]


def test_each_source_of_covid19_has_a_row_if_there_are_several():
    source = ["a"] * 40 + ["b"] * 40 + ["c"] * 40
    label = (["Covid19"] * 20 + ["Normal"] * 20) * 2 + ["Normal"] * 40
    section = rendered(report_inputs(predictions(source, label)))

    assert [row.labels[1] for row in section.tables[1].rows] == ["a", "b"]


def test_contrast_images_are_counted_and_their_answers_shown_by_finding():
    contrast = contrast_frame(["covid"] * 30, ["Covid19"] * 24 + ["Normal"] * 6)
    contrast["finding"] = ["SARS"] * 24 + ["Influenza"] * 6
    section = rendered(with_evidence(report_inputs(predictions(*by_source())), contrast=contrast))

    assert "30 of them are contrast images." in section.warnings[0]
    assert section.tables[0].rows[0].values[1] == "50, 30 contrast"
    answers = section.tables[2]
    assert [(row.labels[0], row.values[0], row.values[1]) for row in answers.rows] == [
        ("all contrast images", 30, 80.0),
        ("SARS", 24, 100.0),
        ("Influenza", 6, 0.0),
    ]
    assert answers.rows[2].kind == "small"


def test_without_a_source_that_has_both_the_section_says_what_that_allows():
    section = rendered(report_inputs(predictions(["a", "b"] * 10, ["Covid19", "Normal"] * 10)))
    assert section.absent == ABSENT


def test_few_images_are_a_hint_only():
    source, label = ["a"] * 25 + ["b"] * 30, ["Covid19"] * 20 + ["Normal"] * 35
    section = rendered(report_inputs(predictions(source, label)))

    assert section.warnings[0].endswith("That is fewer than 20 patients on one side: no more than a hint.")
    assert section.tables[0].rows[0].kind == "small"


def test_the_values_are_plain_json():
    contrast = contrast_frame(["covid"] * 4, ["Covid19"] * 4)
    section = rendered(with_evidence(report_inputs(predictions(*by_source())), contrast=contrast))
    tree = json.loads(json.dumps(plain(section.values), allow_nan=False))

    assert tree["classes"][0]["falls"]
    assert tree["contrast"][0]["answers"]["Covid19"] == 100

import json

from cxr_platform.evaluation.results_json import plain
from cxr_platform.evaluation.sections.prediction_sets import compute, render
from cxr_platform.labels import CLASSES
from tests.evaluation.planted import predictions, report_inputs


def rendered(label, answered=None, **options):
    inputs = report_inputs(predictions(["a"] * len(label), label, answered), **options)
    return render(inputs, compute(inputs))


def test_the_section_shows_coverage_by_class_and_set_sizes():
    section = rendered(list(CLASSES) * 40, synthetic=True)

    assert section.lead[0].startswith(
        "With a coverage of 90\N{NO-BREAK SPACE}% per class, the sets of training from sc"
    )
    assert "1.00 classes on average" in section.lead[0]
    assert "does not hold for other hospitals" in section.lead[-1]
    assert [row.labels[0] for row in section.tables[0].rows] == list(CLASSES)
    assert section.tables[0].synthetic
    assert section.tables[0].rows[0].values[0] == 40


def test_a_class_of_too_few_patients_is_named_in_place_of_a_number():
    section = rendered(["Covid19", "Covid19", "Normal", "Normal"] * 15 + ["Edema"] * 4)
    edema = next(row for row in section.tables[0].rows if row.labels == ("Edema",))

    assert any("Nothing is stated about " in line and "fewer than 10 patients" in line for line in section.lead)
    assert edema.values == (4, "too few patients", None)


def test_without_a_class_of_enough_patients_the_section_says_so():
    assert rendered(["Covid19", "Normal"] * 4).absent == "No class has the 10 patients that it needs."


def test_the_values_are_plain_json():
    values = rendered(["Covid19", "Covid19", "Normal", "Normal"] * 10).values
    assert len(json.loads(json.dumps(plain(values), allow_nan=False))["classes"]) == len(CLASSES)

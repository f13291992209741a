from pathlib import Path

import pytest
from highdicom.sr import MeasurementReport

from cxr_platform.labels import CLASSES
from cxr_platform.serving.dicom_document import encode_document
from cxr_platform.serving.dicom_report import CLASS_CODES, DECISION_CODES, structured_report
from cxr_platform.serving.schema import NOTICE, ScreenAnswer
from tests.serving.dicom_answers import checked, not_screenable, report_of, screened, source, template_faults


def comments(report: MeasurementReport) -> list[str]:
    (group,) = report.get_image_measurement_groups()
    return [item.value for item in group[0].ContentSequence if item.name.meaning == "Comment"]


def test_the_report_has_the_answer_and_the_notice() -> None:
    document = structured_report(screened(), source())
    report = report_of(document)
    (group,) = report.get_image_measurement_groups()
    values = {measurement.name.value: measurement.value for measurement in group.get_measurements()}
    assert {label: values[f"P-{label.upper()}"] / 100 for label in CLASSES} == pytest.approx(screened().probabilities)
    rule = ("THRESHOLD", "ZONE-LOW", "ZONE-HIGH", "TARGET-SENS")
    assert [values[code] for code in rule] == pytest.approx([31, 22, 38, 95])
    evaluations = {item.name.meaning: item.value for item in group.get_qualitative_evaluations()}
    assert evaluations == {
        "COVID-19 screening decision": DECISION_CODES["positive"],
        "Most probable class": CLASS_CODES["Covid19"],
    }
    assert comments(report) == [NOTICE, screened().reason]
    assert document.ContentQualification == "RESEARCH"
    assert "not for diagnosis" in document.SeriesDescription


def test_each_probability_names_its_class_by_a_standard_code() -> None:
    (group,) = report_of(structured_report(screened(), source())).get_image_measurement_groups()
    of_classes = [item[0] for item in group.get_measurements() if item.name.value.startswith("P-")]
    found = [item.ContentSequence[0] for item in of_classes]
    assert [item.value for item in found] == list(CLASS_CODES.values())
    assert {item.name.meaning for item in found} == {"Finding"}


def test_decision_and_operating_point_say_that_they_are_about_covid19() -> None:
    (group,) = report_of(structured_report(screened(), source())).get_image_measurement_groups()
    rule = [item[0] for item in group.get_measurements() if not item.name.value.startswith("P-")]
    decision = next(item for item in group[0].ContentSequence if item.name.value == "DECISION")
    assert len(rule) == 4
    for item in (*rule, decision):
        assert "COVID-19" in item.name.meaning
        (modifier,) = item.ContentSequence
        assert (modifier.name.meaning, modifier.value) == ("Finding", CLASS_CODES["Covid19"])


@pytest.mark.parametrize(
    ("answer", "procedure"),
    [(screened(), "Plain chest X-ray"), (not_screenable(), "Radiographic imaging procedure")],
    ids=["screened", "not screenable"],
)
def test_the_procedure_is_of_the_chest_only_if_the_image_was_screened(answer: ScreenAnswer, procedure: str) -> None:
    document = structured_report(answer, source())
    reported = [item for item in document.ContentSequence if item.name.meaning == "Procedure reported"]
    assert [item.value.meaning for item in reported] == [procedure]


def test_the_observer_is_the_model_and_its_uid_is_that_of_the_model() -> None:
    contents = [report_of(structured_report(made, source())) for made in (screened(), screened())]
    first, second = [content.get_observer_contexts()[0].observer_identifying_attributes for content in contents]
    assert (first.name, first.model_name, first.serial_number) == ("CXR screening v3", "Model v3, scratch", "v3")
    assert first.uid == second.uid
    retrained = screened(operating_point={"target_sensitivity": 0.95, "threshold": 0.32, "zone": [0.22, 0.38]})
    other = report_of(structured_report(retrained, source()))
    assert other.get_observer_contexts()[0].observer_identifying_attributes.uid != first.uid


def test_an_image_that_is_not_screenable_has_no_probability_but_the_reason() -> None:
    report = report_of(structured_report(not_screenable(), source()))
    (group,) = report.get_image_measurement_groups()
    assert not any(item.name.value.startswith("P-") for item in group.get_measurements())
    assert [item.value for item in group.get_qualitative_evaluations()] == [DECISION_CODES["not-screenable"]]
    assert "grey values too close together: contrast 0.084, least 0.2" in comments(report)


def test_a_missing_heatmap_and_a_synthetic_model_are_stated() -> None:
    synthetic = screened(
        model={"version": "v3", "strategy": "scratch", "synthetic": True},
        explanation={"target": "Covid19", "image_png": "", "heatmap_png": None, "missing": "No heatmap."},
    )
    document = structured_report(synthetic, source())
    assert comments(report_of(document))[2:] == [
        "The model was trained on drawn images and is not valid for patients.",
        "No heatmap.",
    ]


def test_dcmtk_reads_the_report(tmp_path: Path) -> None:
    file = tmp_path / "report.dcm"
    file.write_bytes(encode_document(structured_report(screened(), source())))
    text = checked("dsrdump", "dcmtk", file)
    assert "Comprehensive 3D SR Document" in text
    assert '(10828004,SCT,"Positive")' in text
    assert '"Probability of COVID-19")="82.13" (%,UCUM,"Percent")' in text
    assert "E: " not in text


def test_pixelmed_finds_the_report_as_its_template_says_but_for_a_group_of_suggested_codes(tmp_path: Path) -> None:
    """Context group 100 has no radiograph of the chest. It is the template's baseline: other codes are allowed."""
    (fault,) = template_faults(structured_report(screened(), source()), tmp_path / "report.dcm")
    assert fault.endswith('Code (399208008,SCT,"Plain chest X-ray") not found in context group 100')


def test_pixelmed_finds_what_is_missing_in_a_report(tmp_path: Path) -> None:
    document = structured_report(screened(), source())
    kept = [item for item in document.ContentSequence if item.name.meaning != "Imaging Measurements"]
    document.ContentSequence = kept
    faults = template_faults(document, tmp_path / "report.dcm")
    assert [fault for fault in faults if "Imaging Measurements" in fault and "Missing" in fault]

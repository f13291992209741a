"""Documents are read back by highdicom, and checked by dcmtk and dicom3tools, which are independent of pydicom."""

import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from highdicom.sr import MeasurementReport, srread
from pydicom import Dataset, dcmread

from cxr_platform.intake.dicom import read_source
from cxr_platform.intake.dicom_source import DicomSource
from cxr_platform.labels import CLASSES
from cxr_platform.serving import schema
from cxr_platform.serving.answers import explanation
from cxr_platform.serving.dicom_answer import (
    CLASS_CODES,
    DECISION_CODES,
    SCHEME,
    STRIP,
    dicom_documents,
    encode_document,
)
from cxr_platform.serving.heatmap import COLOUR, SIDE, grey_png, overlay_png
from cxr_platform.serving.schema import NOTICE, ScreenAnswer
from tests.intake.files import dicom
from tests.serving.builders import image

STUDY = {
    "StudyInstanceUID": "1.2.3.4",
    "SeriesInstanceUID": "1.2.3.4.5",
    "PatientName": "Müller^Eva",
    "SpecificCharacterSet": "ISO_IR 192",
    "StudyDate": "20260131",
    "StudyTime": "101502",
    "StudyID": "7",
    "PatientOrientation": ["L", "F"],
    "BurnedInAnnotation": "NO",
}
HEAT = np.eye(4, dtype=np.float32)


def source(**attributes: Any) -> DicomSource:
    return read_source(dicom(image(0), **{**STUDY, **attributes}))


def answer(**changes: Any) -> ScreenAnswer:
    return ScreenAnswer.model_validate_json(json.dumps({**schema._SCREENED, **changes}))


def with_heatmap() -> ScreenAnswer:
    pictures = explanation("Covid19", grey_png(image(0)), overlay_png(HEAT), None)
    return answer().model_copy(update={"explanation": pictures})


def read_back(document: Dataset) -> Dataset:
    return dcmread(io.BytesIO(encode_document(document)))


def report_of(document: Dataset) -> MeasurementReport:
    return srread(io.BytesIO(encode_document(document))).content


def comments(report: MeasurementReport) -> list[str]:
    (group,) = report.get_image_measurement_groups()
    return [item.value for item in group[0].ContentSequence if item.name.meaning == "Comment"]


def test_the_report_has_the_answer_and_the_notice() -> None:
    (document,) = dicom_documents(answer(), source())
    report = report_of(document)
    (group,) = report.get_image_measurement_groups()
    values = {measurement.name.value: measurement.value for measurement in group.get_measurements()}
    assert {label: values[f"P-{label.upper()}"] / 100 for label in CLASSES} == pytest.approx(answer().probabilities)
    rule = ("THRESHOLD", "ZONE-LOW", "ZONE-HIGH", "TARGET-SENS")
    assert [values[code] for code in rule] == pytest.approx([31, 22, 38, 95])
    evaluations = {item.name.meaning: item.value for item in group.get_qualitative_evaluations()}
    assert evaluations == {
        "COVID-19 screening decision": DECISION_CODES["positive"],
        "Most probable class": CLASS_CODES["Covid19"],
    }
    assert comments(report) == [NOTICE, answer().reason]
    assert document.ContentQualification == "RESEARCH"
    assert "not for diagnosis" in document.SeriesDescription


def test_each_probability_names_its_class_by_a_standard_code() -> None:
    (group,) = report_of(dicom_documents(answer(), source())[0]).get_image_measurement_groups()
    of_classes = [item[0] for item in group.get_measurements() if item.name.value.startswith("P-")]
    found = [item.ContentSequence[0] for item in of_classes]
    assert [item.value for item in found] == list(CLASS_CODES.values())
    assert {item.name.meaning for item in found} == {"Finding"}


def test_decision_and_operating_point_say_that_they_are_about_covid19() -> None:
    (group,) = report_of(dicom_documents(answer(), source())[0]).get_image_measurement_groups()
    rule = [item[0] for item in group.get_measurements() if not item.name.value.startswith("P-")]
    decision = next(item for item in group[0].ContentSequence if item.name.value == "DECISION")
    assert len(rule) == 4
    for item in (*rule, decision):
        assert "COVID-19" in item.name.meaning
        (modifier,) = item.ContentSequence
        assert (modifier.name.meaning, modifier.value) == ("Finding", CLASS_CODES["Covid19"])


@pytest.mark.parametrize(
    ("example", "procedure"),
    [(schema._SCREENED, "Plain chest X-ray"), (schema._NOT_SCREENABLE, "Radiographic imaging procedure")],
)
def test_the_procedure_is_of_the_chest_only_if_the_image_was_screened(example: dict[str, Any], procedure: str) -> None:
    made = ScreenAnswer.model_validate_json(json.dumps(example))
    (document,) = dicom_documents(made, source())
    reported = [item for item in document.ContentSequence if item.name.meaning == "Procedure reported"]
    assert [item.value.meaning for item in reported] == [procedure]


def uids(made: ScreenAnswer, of: DicomSource) -> list[str]:
    """All UIDs that are made for the documents."""
    report, picture = dicom_documents(made, of)
    (group,) = report_of(report).get_image_measurement_groups()
    own = [uid for document in (report, picture) for uid in (document.SOPInstanceUID, document.SeriesInstanceUID)]
    return [*own, group.tracking_uid]


def test_a_repeat_has_the_same_uids_and_another_model_or_image_has_others() -> None:
    first = uids(with_heatmap(), source())
    assert uids(with_heatmap().model_copy(update={"request_id": "another"}), source()) == first
    rule = with_heatmap().operating_point
    others = [
        uids(
            with_heatmap().model_copy(update={"model": with_heatmap().model.model_copy(update={"version": "v4"})}),
            source(),
        ),
        uids(
            with_heatmap().model_copy(update={"operating_point": rule.model_copy(update={"threshold": 0.32})}), source()
        ),
        uids(with_heatmap(), source(SOPInstanceUID="1.2.3.4.5.7")),
    ]
    assert len({*first, *(uid for other in others for uid in other)}) == 4 * len(first)


def test_an_object_of_other_content_has_another_uid_in_the_same_series() -> None:
    first = uids(with_heatmap(), source())
    probability = with_heatmap().model_copy(update={"covid19_probability": 0.123})
    for other in (uids(probability, source()), uids(with_heatmap(), source(PatientName="Other^Name"))):
        assert [ours == theirs for ours, theirs in zip(first, other, strict=True)] == [False, True, False, True, True]


def test_the_observer_is_the_model_and_its_uid_is_that_of_the_model() -> None:
    contents = [report_of(dicom_documents(made, source())[0]) for made in (answer(), answer())]
    first, second = [content.get_observer_contexts()[0].observer_identifying_attributes for content in contents]
    assert (first.name, first.model_name, first.serial_number) == ("CXR screening v3", "Model v3, scratch", "v3")
    assert first.uid == second.uid
    retrained = answer(operating_point={"target_sensitivity": 0.95, "threshold": 0.32, "zone": [0.22, 0.38]})
    other = report_of(dicom_documents(retrained, source())[0])
    assert other.get_observer_contexts()[0].observer_identifying_attributes.uid != first.uid


def test_an_image_that_is_not_screenable_has_no_probability_but_the_reason() -> None:
    refused = ScreenAnswer.model_validate_json(json.dumps(schema._NOT_SCREENABLE))
    report = report_of(dicom_documents(refused, source())[0])
    (group,) = report.get_image_measurement_groups()
    assert not any(item.name.value.startswith("P-") for item in group.get_measurements())
    assert [item.value for item in group.get_qualitative_evaluations()] == [DECISION_CODES["not-screenable"]]
    assert "grey values too close together: contrast 0.084, least 0.2" in comments(report)


def test_a_missing_heatmap_and_a_synthetic_model_are_stated() -> None:
    synthetic = answer(
        model={"version": "v3", "strategy": "scratch", "synthetic": True},
        explanation={"target": "Covid19", "image_png": "", "heatmap_png": None, "missing": "No heatmap."},
    )
    (document,) = dicom_documents(synthetic, source())
    assert comments(report_of(document))[2:] == [
        "The model was trained on drawn images and is not valid for patients.",
        "No heatmap.",
    ]


def test_documents_join_the_study_with_new_series_and_refer_to_the_image() -> None:
    of = source()
    documents = [read_back(document) for document in dicom_documents(with_heatmap(), of)]
    assert [document.Modality for document in documents] == ["SR", "OT"]
    for document in documents:
        assert document.StudyInstanceUID == "1.2.3.4"
        assert (document.PatientID, str(document.PatientName), document.StudyID) == ("P1", "Müller^Eva", "7")
        assert (document.StudyDate, document.StudyTime, document.PatientSex) == ("20260131", "101502", "")
        assert document.SOPInstanceUID == document.file_meta.MediaStorageSOPInstanceUID
    uids = [uid for d in documents for uid in (d.SOPInstanceUID, d.SeriesInstanceUID)]
    assert len({*uids, of.sop_instance_uid, of.series_instance_uid}) == 6
    report, picture = documents
    series = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == of.series_instance_uid
    for reference in (series.ReferencedSOPSequence[0], picture.SourceImageSequence[0]):
        assert reference.ReferencedSOPClassUID == of.sop_class_uid
        assert reference.ReferencedSOPInstanceUID == of.sop_instance_uid


def test_a_patient_without_id_stays_without() -> None:
    report = read_back(dicom_documents(answer(), source(PatientID="", PatientName=""))[0])
    assert (report.PatientID, str(report.PatientName)) == ("", "")


def test_the_picture_has_heatmap_and_notice_in_its_pixels() -> None:
    picture = read_back(dicom_documents(with_heatmap(), source())[1])
    pixels = picture.pixel_array
    assert pixels.shape == (SIDE + STRIP, SIDE, 3)
    red, _, blue = pixels[:20, :20].reshape(-1, 3).mean(axis=0)
    assert red > blue + 50  # the corner of `HEAT` is in `COLOUR`
    assert COLOUR[0] > COLOUR[2]
    strip = pixels[SIDE:]
    assert strip.max() == 255  # text
    assert (strip < 64).mean() > 0.8
    assert NOTICE in (picture.ImageComments, picture.DerivationDescription)
    assert (picture.BurnedInAnnotation, list(picture.PatientOrientation)) == ("NO", ["L", "F"])
    assert "LossyImageCompression" not in picture
    lossy = dicom_documents(with_heatmap(), source(LossyImageCompression="01"))[1]
    assert lossy.LossyImageCompression == "01"


def test_a_name_without_carets_is_neither_changed_nor_warned_of() -> None:
    (document,) = dicom_documents(answer(), source(PatientName="Madonna"))
    assert str(document.PatientName) == "Madonna"


def checked(program: str, package: str, path: Path) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed (Debian's package {package})")
    run = subprocess.run([found, str(path)], capture_output=True, text=True, timeout=120, check=False)
    return run.stdout + run.stderr


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    refused = ScreenAnswer.model_validate_json(json.dumps(schema._NOT_SCREENABLE))
    documents = [
        *dicom_documents(with_heatmap(), source()),
        *dicom_documents(refused, source()),
        *dicom_documents(answer(), source(PatientID="", PatientOrientation="", BurnedInAnnotation="")),
    ]
    for number, document in enumerate(documents):
        (tmp_path / f"{number}.dcm").write_bytes(encode_document(document))
    return sorted(tmp_path.glob("*.dcm"))


def test_dciodvfy_finds_no_error_against_the_standard(files: list[Path]) -> None:
    for file in files:
        lines = checked("dciodvfy", "dicom3tools", file).splitlines()
        assert {"Comprehensive3DSR", "SCImage"} & set(lines), lines
        unexpected = [line for line in lines if line.startswith(("Error", "Warning"))]
        # of the private scheme, which is declared, and of attributes that may be empty
        allowed = (f"<{SCHEME}>", "needed to build DICOMDIR")
        assert not [line for line in unexpected if not any(text in line for text in allowed)]


def test_dcmtk_reads_the_report(files: list[Path]) -> None:
    text = checked("dsrdump", "dcmtk", files[0])
    assert "Comprehensive 3D SR Document" in text
    assert '(10828004,SCT,"Positive")' in text
    assert '"Probability of COVID-19")="82.13" (%,UCUM,"Percent")' in text
    assert "E: " not in text

import warnings
from typing import Any

import pytest
from pydantic import ValidationError
from pydicom import config
from pydicom.uid import JPEGBaseline8Bit

from cxr_platform.errors import ImageRefused
from cxr_platform.intake.dicom import read_source
from cxr_platform.intake.dicom_source import DicomSource
from tests.intake.files import DX, dicom, jpeg_dataset, many_elements, ramp

STUDY = {"StudyInstanceUID": "1.2.3.4", "SeriesInstanceUID": "1.2.3.4.5"}


def source(**attributes: Any) -> DicomSource:
    return read_source(dicom(ramp(), **{**STUDY, **attributes}))


def irregular(**attributes: Any) -> bytes:
    """A file with values that pydicom would not write."""
    mode = config.settings.writing_validation_mode
    try:
        config.settings.writing_validation_mode = config.IGNORE
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return dicom(ramp(), **{**STUDY, **attributes})
    finally:
        config.settings.writing_validation_mode = mode


def test_patient_study_and_references_are_read() -> None:
    read = source(
        SpecificCharacterSet="ISO_IR 100",
        PatientName="Müller^Eva",
        PatientSex="F",
        StudyDate="20260131",
        StudyTime="101502.25",
        AccessionNumber="A 7",
        PatientOrientation=["L", "F"],
    )
    assert (read.sop_class_uid, read.study_instance_uid, read.series_instance_uid) == (DX, "1.2.3.4", "1.2.3.4.5")
    assert read.attributes == {
        "PatientID": "P1",
        "PatientName": "Müller^Eva",
        "PatientSex": "F",
        "StudyDate": "20260131",
        "StudyTime": "101502.25",
        "AccessionNumber": "A 7",
        "PatientOrientation": "L\\F",
    }


def test_attributes_that_may_be_empty_are_left_out() -> None:
    assert source(PatientID="", PatientName="").attributes == {}


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("StudyInstanceUID", None),
        ("StudyInstanceUID", ""),
        ("SeriesInstanceUID", "1.2.x"),
        ("SOPInstanceUID", "1." * 40 + "1"),
        ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.2"),
        ("PatientID", "P" * 65),
        ("PatientID", "P1\\P2"),
        ("PatientID", "P\t1"),
        ("AccessionNumber", "A" * 17),
    ],
)
def test_without_identity_a_document_is_refused(keyword: str, value: str | None) -> None:
    file = irregular(**{keyword: value})
    with pytest.raises(ImageRefused, match=f"incomplete-dicom.*{keyword}"):
        read_source(file)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientSex", "unknown"),
        ("StudyDate", "2026-1-31"),
        ("StudyDate", "20261332"),
        ("StudyTime", "10:15"),
        ("PatientBirthDate", "1950"),
        ("PatientName", "N" * 100),
        ("StudyDescription", "chest\\thorax"),
    ],
)
def test_an_irregular_value_of_another_attribute_is_left_empty(keyword: str, value: str) -> None:
    file = irregular(**{keyword: value})
    assert read_source(file).attributes == {"PatientID": "P1"}


def test_loss_is_read_from_the_attribute_and_from_the_transfer_syntax() -> None:
    assert not source().lossy
    assert source(LossyImageCompression="01").lossy
    compressed = jpeg_dataset(ramp(), **STUDY)
    assert compressed.file_meta.TransferSyntaxUID == JPEGBaseline8Bit
    assert read_source(dicom(compressed)).lossy


def test_hostile_files_meet_the_bounds_of_the_decoder() -> None:
    with pytest.raises(ImageRefused, match=r"undecodable.*more elements"):
        read_source(many_elements(dicom(ramp(), **STUDY), 3 * 2**20))
    with pytest.raises(ImageRefused, match="undecodable"):
        read_source(dicom(ramp(), **STUDY, StudyDescription="x" * 60, ImageComments="1.2.840.10008.1.2.1.99"))


@pytest.mark.parametrize(
    "change",
    [
        {"attributes": {"PixelData": "x"}},
        {"attributes": {"StudyDate": "tomorrow"}},
        {"attributes": {"PatientID": "P\n1"}},
        {"study_instance_uid": "1.2.x"},
        {"sop_class_uid": "1.2.840.10008.5.1.4.1.1.88.34"},
    ],
)
def test_values_of_another_process_are_checked_again(change: dict[str, Any]) -> None:
    tree = source().model_dump() | change
    with pytest.raises(ValidationError):
        DicomSource.model_validate(tree)

"""Documents are read back by highdicom, and checked by dicom3tools, which is independent of pydicom."""

from pathlib import Path

import pytest

from cxr_platform.serving.dicom_answer import STRIP, dicom_documents
from cxr_platform.serving.dicom_document import encode_document
from cxr_platform.serving.dicom_report import SCHEME
from cxr_platform.serving.heatmap import COLOUR, SIDE
from cxr_platform.serving.schema import NOTICE
from tests.serving.dicom_answers import checked, not_screenable, read_back, screened, source, with_heatmap


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


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    documents = [
        *dicom_documents(with_heatmap(), source()),
        *dicom_documents(not_screenable(), source()),
        *dicom_documents(screened(), source(PatientID="", PatientOrientation="", BurnedInAnnotation="")),
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

from cxr_platform.intake.dicom_source import DicomSource
from cxr_platform.serving.dicom_answer import dicom_documents
from cxr_platform.serving.schema import ScreenAnswer
from tests.serving.dicom_answers import read_back, report_of, screened, source, with_heatmap


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


def test_a_patient_without_id_stays_without() -> None:
    report = read_back(dicom_documents(screened(), source(PatientID="", PatientName=""))[0])
    assert (report.PatientID, str(report.PatientName)) == ("", "")


def test_a_name_without_carets_is_neither_changed_nor_warned_of() -> None:
    (document,) = dicom_documents(screened(), source(PatientName="Madonna"))
    assert str(document.PatientName) == "Madonna"

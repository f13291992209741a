"""Orthanc stores and returns what the standard says; small servers answer what it does not say."""

import json
import re
import socket
from typing import Any

import pytest
from pydicom.uid import generate_uid

from cxr_platform.errors import ServingError
from cxr_platform.intake.dicom import read_source
from cxr_platform.serving.dicom_answer import dicom_documents
from cxr_platform.serving.dicomweb import NOT_NAMED, UIDS, DicomWebServer
from cxr_platform.serving.dicomweb_login import Login, load_login
from tests.intake.files import dicom
from tests.serving.builders import image
from tests.serving.dicom_answers import with_heatmap
from tests.serving.dicomweb_answers import JSON, part, stow_answer, study_metadata
from tests.serving.orthanc import Orthanc
from tests.serving.planned_server import PlannedHandler, planned_server


def radiograph(study: str, **attributes: Any) -> bytes:
    uids = {"SOPInstanceUID": generate_uid(prefix=None), "SeriesInstanceUID": generate_uid(prefix=None)}
    return dicom(image(0), StudyInstanceUID=study, **{**uids, "PatientName": "Doe^Jane", **attributes})


def listed(**uids: str) -> bytes:
    """An image as `study_metadata` lists it for study 1.2.3, as 1.2.1 unless `uids` say otherwise."""
    given = {"SeriesInstanceUID": "1.2", "SOPInstanceUID": "1.2.1", **uids}
    return radiograph(given.pop("StudyInstanceUID", "1.2.3"), **given)


def documents(file: bytes) -> list[Any]:
    return dicom_documents(with_heatmap(), read_source(file))


def connected(pacs: Orthanc) -> DicomWebServer:
    return DicomWebServer(pacs.dicomweb, load_login({"CXR_DICOMWEB_LOGIN": pacs.login}))


def test_a_pacs_shows_report_and_heatmap_beside_the_image(pacs: Orthanc) -> None:
    study = generate_uid(prefix=None)
    file = radiograph(study)
    pacs.upload(file)
    assert connected(pacs).store(documents(file)) == {}
    shown = {instance["Modality"]: instance for instance in pacs.instances(study)}
    assert set(shown) == {"DX", "SR", "OT"}
    assert {instance["PatientName"] for instance in shown.values()} == {"Doe^Jane"}
    assert len({instance["SeriesInstanceUID"] for instance in shown.values()}) == 3
    report, picture = shown["SR"], shown["OT"]
    assert report["ContentTemplateSequence"][0]["TemplateIdentifier"] == "1500"
    assert report["ContentQualification"] == picture["ContentQualification"] == "RESEARCH"
    tree = json.dumps(report["ContentSequence"])
    for text in (
        "For research, not for diagnosis.",
        "Probability of COVID-19",
        "CXR screening v3",
        "COVID-19 screening decision",
    ):
        assert text in tree
    assert picture["ConversionType"] == "WSD"
    source = picture["SourceImageSequence"][0]["ReferencedSOPInstanceUID"]
    assert source == shown["DX"]["SOPInstanceUID"]


def test_images_of_a_study_are_fetched_without_reports_and_own_pictures(pacs: Orthanc) -> None:
    study, series = generate_uid(prefix=None), generate_uid(prefix=None)
    first, second = radiograph(study), radiograph(study, SeriesInstanceUID=series)
    for file in (first, second):
        pacs.upload(file)
    server = connected(pacs)
    server.store(documents(first))
    fetched = dict(server.images(study))
    assert set(fetched) == {read_source(file).sop_instance_uid for file in (first, second)}
    for uid, file in fetched.items():
        assert isinstance(file, bytes)
        assert read_source(file).sop_instance_uid == uid
    assert [uid for uid, _ in server.images(study, series)] == [read_source(second).sop_instance_uid]


def test_a_study_without_images_is_an_error(pacs: Orthanc) -> None:
    study = generate_uid(prefix=None)
    server = connected(pacs)
    assert server.store(documents(radiograph(study))) == {}
    with pytest.raises(ServingError, match=rf"Expected images in study {study}.*2 other objects"):
        list(server.images(study))


def test_a_wrong_login_and_an_unknown_study_are_errors_with_advice(pacs: Orthanc) -> None:
    file = radiograph(generate_uid(prefix=None))
    server = DicomWebServer(pacs.dicomweb, Login("ward", "wrong"))
    for work in (lambda: server.store(documents(file)), lambda: list(server.images("1.2.3"))):
        with pytest.raises(ServingError, match=r"status 401.*CXR_DICOMWEB_LOGIN") as error:
            work()
        assert "wrong" not in str(error.value)
    with pytest.raises(ServingError, match=r"status 404.*base of the DICOMweb"):
        list(connected(pacs).images("1.2.3.4.5.6.7"))


@pytest.mark.parametrize("status", [200, 202, 409])
def test_objects_that_were_not_stored_are_returned_with_their_reason(status: int) -> None:
    report, picture = documents(radiograph("1.2.3"))
    body = stow_answer([report.SOPInstanceUID], {picture.SOPInstanceUID: 0x0122})
    with planned_server((status, JSON, body)) as url:
        failed = DicomWebServer(url, None).store([report, picture])
    assert failed == {picture.SOPInstanceUID: "the server does not store this SOP class (failure reason 0x0122)"}


def test_an_object_of_which_the_answer_says_nothing_counts_as_not_stored() -> None:
    (report, picture) = documents(radiograph("1.2.3"))
    with planned_server((200, JSON, stow_answer([report.SOPInstanceUID], {}))) as url:
        failed = DicomWebServer(url, None).store([report, picture])
    assert failed == {picture.SOPInstanceUID: NOT_NAMED}


def test_an_object_that_is_already_there_counts_as_stored() -> None:
    report, picture = documents(radiograph("1.2.3"))
    body = stow_answer([report.SOPInstanceUID], {picture.SOPInstanceUID: 0x0111})
    with planned_server((409, JSON, body)) as url:
        assert DicomWebServer(url, None).store([report, picture]) == {}


@pytest.mark.parametrize("media_type", ["application/dicom+json; charset=utf-8", "Application/JSON;charset=UTF-8"])
def test_an_answer_may_state_its_charset_and_is_asked_for_as_json(media_type: str) -> None:
    report, picture = documents(radiograph("1.2.3"))
    body = stow_answer([report.SOPInstanceUID, picture.SOPInstanceUID], {})
    with planned_server((200, {"Content-Type": media_type}, body)) as url:
        assert DicomWebServer(url, None).store([report, picture]) == {}
    assert PlannedHandler.last_headers["Accept"] == "application/dicom+json"


UNNAMED: dict[str, Any] = {"00081150": {"vr": "UI", "Value": ["1.2.3"]}}


@pytest.mark.parametrize(
    ("tree", "reason"),
    [
        ({"00081199": {"vr": "SQ", "Value": [UNNAMED]}}, NOT_NAMED),
        ({"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [272, 273]}}]}}, "no reason given"),
        ({"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": []}}]}}, "no reason given"),
        ({"00081198": {"vr": "LO", "Value": ["none"]}}, NOT_NAMED),
    ],
)
def test_an_answer_that_cannot_be_understood_counts_as_not_stored(tree: dict[str, Any], reason: str) -> None:
    report, picture = documents(radiograph("1.2.3"))
    with planned_server((200, JSON, json.dumps(tree).encode())) as url:
        failed = DicomWebServer(url, None).store([report, picture])
    assert failed == {report.SOPInstanceUID: reason, picture.SOPInstanceUID: reason}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((404, {}, b""), "return image 1.2.1.*status 404"),
        ((500, {}, b""), "return image 1.2.1.*status 500"),
        (part(b"no DICOM"), "Expected image 1.2.1 as DICOM"),
        *(
            (part(listed(**{name: "9.9.9"})), "image 1.2.1 as DICOM.*with another SOP, Series or Study")
            for name in UIDS
        ),
    ],
)
def test_an_image_that_is_not_returned_is_an_error_in_its_place(
    answer: tuple[int, dict[str, str], bytes], message: str
) -> None:
    file = listed(SOPInstanceUID="1.2.2")
    with planned_server((200, JSON, study_metadata("1.2.1", "1.2.2")), answer, part(file)) as url:
        (first, error), (second, content) = DicomWebServer(url, None).images("1.2.3")
    assert (first, second) == ("1.2.1", "1.2.2")
    assert isinstance(error, ServingError)
    assert re.search(message, str(error))
    assert isinstance(content, bytes)
    assert read_source(content) == read_source(file)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_login_ends_the_study(status: int) -> None:
    with planned_server((200, JSON, study_metadata("1.2.1", "1.2.2")), (status, {}, b"")) as url:
        images = DicomWebServer(url, None).images("1.2.3")
        with pytest.raises(ServingError, match=f"status {status}"):
            next(images)


def test_a_lost_connection_ends_the_study() -> None:
    with planned_server((200, JSON, study_metadata("1.2.1", "1.2.2")), part(listed())) as url:
        images = DicomWebServer(url, None).images("1.2.3")
        assert isinstance(next(images)[1], bytes)
    with pytest.raises(ServingError, match="Expected a DICOMweb server at http://127"):
        next(images)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((409, {"Content-Type": "text/html"}, b"<p>no</p>"), "status 409.*why it stores none"),
        ((403, {}, b""), "status 403.*right to do so"),
        ((503, {}, b""), "status 503.*Try again later"),
        ((200, {"Content-Type": "application/dicom+json"}, b"[1, 2"), "base of its DICOMweb service"),
    ],
)
def test_other_answers_of_a_server_are_errors(answer: tuple[int, dict[str, str], bytes], message: str) -> None:
    with planned_server(answer) as url, pytest.raises(ServingError, match=message):
        DicomWebServer(url, None).store(documents(radiograph("1.2.3")))


def test_a_server_that_is_not_there_is_an_error() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        server = DicomWebServer(f"http://127.0.0.1:{closed.getsockname()[1]}", None)
        with pytest.raises(ServingError, match="Expected a DICOMweb server at http://127"):
            server.store(documents(radiograph("1.2.3")))
        with pytest.raises(ServingError, match="Expected a DICOMweb server at http://127"):
            list(server.images("1.2.3"))


def test_a_server_is_not_connected_if_its_url_is_wrong_or_a_login_would_be_sent_unencrypted() -> None:
    login = Login("ward", "secret")
    DicomWebServer("https://pacs/dicom-web", login)
    DicomWebServer("http://pacs/dicom-web", None)
    with pytest.raises(ServingError, match="without user and password"):
        DicomWebServer("http://ward:secret@pacs/dicom-web", None)
    with pytest.raises(ServingError, match=r"Expected https.*Received: http://pacs/dicom-web") as error:
        DicomWebServer("http://pacs/dicom-web", login)
    assert "secret" not in str(error.value)

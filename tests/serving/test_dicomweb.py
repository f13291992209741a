"""Orthanc stores and returns what the standard says; small servers answer what it does not say."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import generate_uid

from cxr_platform.errors import ServingError
from cxr_platform.intake.dicom import read_source
from cxr_platform.serving import schema
from cxr_platform.serving.answers import explanation
from cxr_platform.serving.dicom_answer import dicom_documents
from cxr_platform.serving.dicomweb import DicomWebServer, Login, check_one_host, load_login
from cxr_platform.serving.heatmap import grey_png, overlay_png
from cxr_platform.serving.schema import ScreenAnswer
from tests.intake.files import dicom
from tests.serving.builders import image
from tests.serving.orthanc import Orthanc
from tests.serving.planned_server import planned_server
from tests.serving.test_dicom_answer import HEAT

JSON = {"Content-Type": "application/dicom+json"}


def radiograph(study: str, **attributes: Any) -> bytes:
    uids = {"SOPInstanceUID": generate_uid(prefix=None), "SeriesInstanceUID": generate_uid(prefix=None)}
    return dicom(image(0), StudyInstanceUID=study, **{**uids, "PatientName": "Doe^Jane", **attributes})


def documents(file: bytes) -> list[Any]:
    answer = ScreenAnswer.model_validate_json(json.dumps(schema._SCREENED))
    pictures = explanation("Covid19", grey_png(image(0)), overlay_png(HEAT), None)
    return dicom_documents(answer.model_copy(update={"explanation": pictures}), read_source(file))


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
    for text in ("For research, not for diagnosis.", "Probability of COVID-19", "CXR screening v3", "Conclusion"):
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


def stow_answer(stored: list[str], failed: dict[str, int]) -> bytes:
    def items(uids: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
        return [{"00081155": {"vr": "UI", "Value": [uid]}, **more} for uid, more in uids.items()]

    reasons = {uid: {"00081197": {"vr": "US", "Value": [code]}} for uid, code in failed.items()}
    sequences = {"00081199": items({uid: {} for uid in stored}), "00081198": items(reasons)}
    return json.dumps({tag: {"vr": "SQ", "Value": value} for tag, value in sequences.items() if value}).encode()


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
    assert failed == {picture.SOPInstanceUID: "the server does not say that it stored it"}


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


@pytest.mark.parametrize("url", ["pacs/dicom-web", "ftp://pacs", "http://", "http://pacs/dicom-web?key=1"])
def test_a_wrong_url_is_an_error(url: str) -> None:
    with pytest.raises(ServingError, match="like https://HOST/dicom-web"):
        DicomWebServer(url, None)


def test_a_login_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ServingError, match="CXR_DICOMWEB_LOGIN_FILE") as error:
        DicomWebServer("http://ward:secret@pacs/dicom-web", None)
    assert "secret" not in str(error.value)


def test_a_login_comes_from_a_variable_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "login"
    file.write_text("ward:a:b\n", encoding="utf-8")
    assert load_login({}) is None
    assert load_login({"CXR_DICOMWEB_LOGIN_FILE": str(file)}) == Login("ward", "a:b")
    assert load_login({"CXR_DICOMWEB_TOKEN": "abc"}) == Login(token="abc")
    assert "a:b" not in repr(Login("ward", "a:b"))
    assert "abc" not in repr(Login(token="abc"))


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"CXR_DICOMWEB_LOGIN": "secret"}, "USER:PASSWORD"),
        ({"CXR_DICOMWEB_LOGIN": "secret:s", "CXR_DICOMWEB_TOKEN": "secret"}, "one of"),
        ({"CXR_DICOMWEB_TOKEN_FILE": "/nowhere/secret"}, "readable file"),
    ],
)
def test_a_login_that_cannot_be_used_is_an_error_without_it(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ServingError, match=message) as error:
        load_login(environment)
    assert "secret" not in str(error.value)


def test_one_login_goes_to_one_server() -> None:
    check_one_host("https://pacs/dicom-web", "https://pacs/other")
    with pytest.raises(ServingError, match="one server"):
        check_one_host("https://pacs/dicom-web", "https://archive/dicom-web")

"""The application with a real bundle, through httpx's ASGI transport."""

import base64
import gzip
import hashlib
import io
import json
import logging
import struct
import zlib
from collections.abc import Iterator
from email.parser import BytesParser
from email.policy import HTTP
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image
from pydicom import dcmread
from starlette.responses import StreamingResponse
from starlette.routing import Mount, Route

from cxr_platform.registry.bundle import Preprocessing
from cxr_platform.serving import problems
from cxr_platform.serving.api_keys import parse_keys
from cxr_platform.serving.app import HEADERS, build_app
from cxr_platform.serving.champion_watcher import ChampionWatcher
from cxr_platform.serving.dicom_decoder import DicomDecoder
from cxr_platform.serving.heatmap import overlay_png
from cxr_platform.serving.pages import samples_router
from cxr_platform.serving.routes import is_own_path
from cxr_platform.serving.schema import BatchAnswer, ModelAnswer, Ready, ScreenAnswer
from cxr_platform.serving.screener import PreparedImage, Screener, prepare_image
from cxr_platform.serving.service import NO_HEATMAP, NO_HEATMAP_OF_VIEWS, Service
from cxr_platform.serving.upload import Limits
from tests.intake.files import dicom, jpeg, png
from tests.serving.asgi_client import BOUNDARY, CLOSED, MULTIPART, ask, multipart, pieces, post, reason, websocket
from tests.serving.builders import image, image_png, registry_with_champion

KEY = "a-key-of-many-characters"
LIMIT = 2**20


class FakeExplainer:
    """An Explainer without TensorFlow; `broken` raises for heatmaps."""

    def __init__(self, broken: bool = False) -> None:
        self.calls: list[str] = []
        self._broken = broken

    async def heatmap(self, version: str, image: np.ndarray, target: int) -> bytes:
        if self._broken:
            raise OSError("gone")
        self.calls.append(f"heatmap {version} {target} {image.shape}")
        return overlay_png(np.eye(8, dtype=np.float32))


class FakeDecoder(DicomDecoder):
    """A decoder in this process."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    async def prepare(self, data: bytes, preprocessing: Preprocessing, with_source: bool = False) -> PreparedImage:
        self.calls += 1
        return prepare_image(data, preprocessing, with_source)


@pytest.fixture
def decoder() -> FakeDecoder:
    return FakeDecoder()


@pytest.fixture
def explainer() -> FakeExplainer:
    return FakeExplainer()


@pytest.fixture
def service(champion: ChampionWatcher[Screener], explainer: FakeExplainer, decoder: FakeDecoder) -> Service:
    return Service(champion, explainer=explainer, decoder=decoder, limits=Limits(body_bytes=LIMIT), max_waiting=4)


@pytest.fixture
def app(service: Service, tmp_path: Path) -> FastAPI:
    return build_app(service, None, tmp_path / "no-page")


def test_an_image_gets_the_answer_of_the_screener(app: FastAPI, screener: Screener) -> None:
    answer = post(app, image_png())
    assert answer.status_code == 200
    screened = ScreenAnswer.model_validate_json(answer.content)
    (expected,) = screener.screen([screener.prepare(image_png())])
    assert screened.label == expected.label
    assert screened.probabilities is not None
    assert list(screened.probabilities) == list(screener.bundle.labels)
    assert np.allclose(list(screened.probabilities.values()), expected.probabilities, atol=1e-6)
    assert screened.covid19_probability == pytest.approx(expected.covid19, abs=1e-6)
    assert screened.decision == expected.decision
    assert screened.model.version == "v1"
    assert screened.model.synthetic
    assert screened.explanation is None
    assert screened.timings_ms.decode > 0
    assert screened.timings_ms.total >= screened.timings_ms.decode
    assert screened.request_id == answer.headers["x-request-id"]
    assert "diagnosis" in screened.notice


@pytest.mark.parametrize("data", [image_png(2), jpeg(image(2)), dicom(image(2))], ids=["png", "jpeg", "dicom"])
def test_png_jpeg_and_dicom_are_answered(app: FastAPI, data: bytes) -> None:
    assert post(app, data).json()["label"]


def radiograph(**attributes: Any) -> bytes:
    return dicom(image(1), StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.4", **attributes)


def test_an_answer_as_dicom_is_a_report_in_the_study_of_the_image(app: FastAPI, decoder: FakeDecoder) -> None:
    answer = post(app, radiograph(), "/v1/screen?format=sr")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/dicom")
    report = dcmread(io.BytesIO(answer.content))
    expected = ScreenAnswer.model_validate_json(post(app, radiograph()).content)
    assert (report.Modality, report.StudyInstanceUID, report.PatientID) == ("SR", "1.2.3", "P1")
    assert expected.reason in report.to_json()
    assert decoder.calls == 2


def parts_of(answer: httpx.Response) -> list[Any]:
    """The objects of a multipart answer, parsed by Python's e-mail parser."""
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + answer.content)
    assert message.get_content_type() == "multipart/related"
    assert message.get_param("type") == "application/dicom"
    parts = list(message.iter_parts())
    assert {part.get_content_type() for part in parts} == {"application/dicom"}
    return [dcmread(io.BytesIO(part.get_payload(decode=True))) for part in parts]


def test_an_answer_as_dicom_with_a_heatmap_is_multipart(app: FastAPI) -> None:
    report, picture = parts_of(post(app, radiograph(), "/v1/screen?format=sr&explain=true"))
    assert (report.Modality, picture.Modality) == ("SR", "OT")
    assert picture.pixel_array.shape[2] == 3


def test_without_a_heatmap_the_report_is_the_only_part_and_says_so(champion: ChampionWatcher[Screener]) -> None:
    app = build_app(Service(champion, explainer=FakeExplainer(broken=True)), None)
    (report,) = parts_of(post(app, radiograph(), "/v1/screen?format=sr&explain=true"))
    assert NO_HEATMAP in report.to_json()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (image_png(), (415, "not-dicom")),
        (dicom(image(1)), (422, "incomplete-dicom")),
        (radiograph(Modality="CT", SOPClassUID="1.2.840.10008.5.1.4.1.1.2"), (422, "modality")),
    ],
)
def test_an_image_without_patient_and_study_has_no_answer_as_dicom(
    app: FastAPI, data: bytes, expected: tuple[int, str]
) -> None:
    answer = post(app, data, "/v1/screen?format=sr")
    assert (answer.status_code, reason(answer)) == expected


def test_an_unknown_format_is_a_bad_parameter(app: FastAPI) -> None:
    assert reason(post(app, radiograph(), "/v1/screen?format=pdf")) == "bad-parameter"


def test_only_dicom_is_decoded_by_the_decoder(app: FastAPI, decoder: FakeDecoder) -> None:
    post(app, image_png())
    assert decoder.calls == 0
    post(app, dicom(image(1)))
    assert decoder.calls == 1


def test_an_image_that_is_not_screenable_gets_the_reason_and_no_probabilities(app: FastAPI) -> None:
    answer = post(app, png(np.full((200, 200), 90, np.uint8)))
    assert answer.status_code == 200
    screened = ScreenAnswer.model_validate_json(answer.content)
    assert screened.decision == "not-screenable"
    assert screened.label is screened.probabilities is screened.covid19_probability is None
    assert "low-contrast" in [finding.code for finding in screened.findings]
    assert "grey values" in screened.reason


def test_a_lateral_view_gets_the_reason_and_no_heatmap(app: FastAPI, explainer: FakeExplainer) -> None:
    answer = post(app, dicom(image(1), ViewPosition="LATERAL DOE"), path="/v1/screen?explain=true")
    screened = ScreenAnswer.model_validate_json(answer.content)
    assert (answer.status_code, screened.decision, screened.probabilities) == (200, "not-screenable", None)
    assert [(finding.code, finding.detail) for finding in screened.findings] == [("view", "view LATERAL")]
    assert screened.reason == "The image is not screenable: not a frontal view."
    assert screened.explanation is None
    assert explainer.calls == []
    assert "DOE" not in answer.text


def test_a_model_of_views_is_answered_without_a_heatmap_and_says_why(tmp_path: Path, explainer: FakeExplainer) -> None:
    registry = registry_with_champion(tmp_path, views=("whole", "lungs"))
    champion = ChampionWatcher(registry, lambda folder, bundle: Screener(folder, bundle, threads=1))
    app = build_app(Service(champion, explainer=explainer), None)
    answer = post(app, image_png(), path="/v1/screen?explain=true").json()
    assert answer["model"]["strategy"] == "robust"
    assert answer["decision"] in ("positive", "negative", "indeterminate")
    assert answer["explanation"]["heatmap_png"] is None
    assert answer["explanation"]["missing"] == NO_HEATMAP_OF_VIEWS
    assert explainer.calls == []


def test_a_heatmap_is_returned_on_request(app: FastAPI, explainer: FakeExplainer) -> None:
    answer = post(app, image_png(), path="/v1/screen?explain=true").json()
    explained = answer["explanation"]
    pictures = [Image.open(io.BytesIO(base64.b64decode(explained[name]))) for name in ("image_png", "heatmap_png")]
    assert [picture.mode for picture in pictures] == ["L", "RGBA"]
    assert pictures[0].size == pictures[1].size
    assert explained["target"] == answer["label"]
    assert explained["missing"] is None
    assert answer["timings_ms"]["explanation"] > 0
    assert explainer.calls[0].startswith("heatmap v1 ")


def test_an_image_is_answered_without_a_heatmap_if_there_is_none(champion: ChampionWatcher[Screener]) -> None:
    for explainer in (None, FakeExplainer(broken=True)):
        app = build_app(Service(champion, explainer=explainer), None)
        answer = post(app, image_png(), path="/v1/screen?explain=true")
        assert answer.status_code == 200
        assert answer.json()["explanation"]["heatmap_png"] is None
        assert "not available" in answer.json()["explanation"]["missing"]


def test_each_file_of_a_batch_gets_a_result_or_a_problem(app: FastAPI) -> None:
    bodies = [image_png(0), b"<html></html>", image_png(1), b"", image_png(2)[:500]]
    answer = ask(app, "POST", "/v1/screen/batch", files=[("file", data) for data in bodies])
    assert answer.status_code == 200
    items = BatchAnswer.model_validate_json(answer.content).items
    assert [item.index for item in items] == [0, 1, 2, 3, 4]
    assert [item.problem.reason if item.problem else None for item in items] == [
        None, "not-an-image", None, "empty-file", "undecodable",
    ]  # fmt: skip
    assert items[0].result is not None
    assert items[0].result.probabilities == post(app, image_png(0)).json()["probabilities"]


def test_a_batch_has_at_most_32_files(app: FastAPI) -> None:
    small = png(np.zeros((8, 8), np.uint8))
    path = "/v1/screen/batch"
    assert ask(app, "POST", path, files=[("file", small)] * 32).status_code == 200
    assert reason(ask(app, "POST", path, files=[("file", small)] * 33)) == "too-many-files"


HOSTILE = {
    "empty": (b"", "empty-file"),
    "html": (b"<!doctype html><html></html>", "not-an-image"),
    "zip": (b"PK\x03\x04" + bytes(100), "not-an-image"),
    "gif": (b"GIF89a" + bytes(50), "not-an-image"),
    "truncated png": (image_png()[:2000], "undecodable"),
    "truncated jpeg": (jpeg(image(0))[:400], "undecodable"),
    "0 by 0": (b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + bytes(8) + b"\x08\0\0\0\0" + bytes(4), "undecodable"),
    "dicom without pixels": (bytes(128) + b"DICM" + bytes(40), None),
    "preamble alone": (bytes(128) + b"DICM", None),
}


@pytest.mark.parametrize(("data", "expected"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_are_refused_with_a_reason(app: FastAPI, data: bytes, expected: str | None) -> None:
    answer = post(app, data)
    assert 400 <= answer.status_code < 500
    assert reason(answer) == expected or expected is None


def test_a_huge_header_is_refused_before_anything_is_decoded(app: FastAPI) -> None:
    size = struct.pack(">II", 30_000, 30_000) + b"\x08\0\0\0\0"
    header = b"\0\0\0\rIHDR" + size + struct.pack(">I", zlib.crc32(b"IHDR" + size))
    answer = post(app, b"\x89PNG\r\n\x1a\n" + header + image_png()[33:])
    assert (answer.status_code, reason(answer)) == (413, "too-large")


def test_content_of_a_file_is_never_repeated(app: FastAPI, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "Doe^Jane"
    tomography = dicom(image(0), Modality="CT", PatientName=secret, SOPClassUID="1.2.840.10008.5.1.4.1.1.2")
    begins_with_a_secret = secret.encode() + bytes(50)
    for data in (tomography, begins_with_a_secret, dicom(image(0), PatientName=secret)):
        answer = post(app, data, headers={"x-request-id": secret})
        assert secret not in answer.text + str(answer.headers)
    assert reason(post(app, tomography)) == "modality"
    assert "CT" not in post(app, tomography).json()["title"].split()
    assert secret not in caplog.text
    assert "image.dcm" not in ask(app, "POST", "/v1/screen", files={"file": ("image.dcm", b"x")}).text


MALFORMED: dict[str, tuple[dict[str, Any], int, str]] = {
    "no body": ({}, 415, "not-multipart"),
    "wrong type": ({"content": image_png(), "headers": {"content-type": "image/png"}}, 415, "not-multipart"),
    "urlencoded": ({"data": {"file": "x"}}, 415, "not-multipart"),
    "no boundary": ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 415, "not-multipart"),
    "another part": ({"files": {"image": b"x"}}, 422, "no-file"),
    "no part": ({"content": f"--{BOUNDARY}--\r\n".encode(), "headers": MULTIPART}, 422, "no-file"),
    "two parts": ({"files": [("file", b"x"), ("file", b"y")]}, 422, "too-many-files"),
    "cut off": ({"content": multipart([image_png()])[:-20], "headers": MULTIPART}, 400, "broken-multipart"),
    "garbage": ({"content": bytes(500), "headers": MULTIPART}, 400, "broken-multipart"),
    "bad length": ({"content": b"", "headers": {**MULTIPART, "content-length": "-5"}}, 400, "bad-request"),
    "oversize": ({"files": {"file": bytes(LIMIT)}}, 413, "too-large"),
}


@pytest.mark.parametrize(("options", "status", "expected"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_bodies_are_refused(app: FastAPI, options: dict[str, Any], status: int, expected: str) -> None:
    answer = ask(app, "POST", "/v1/screen", **options)
    assert (answer.status_code, reason(answer)) == (status, expected)


@pytest.mark.parametrize("path", ["/v1/screen", "/v1/screen/batch"])
def test_a_compressed_body_is_refused_with_what_to_send(app: FastAPI, path: str) -> None:
    body = multipart([image_png()])
    encoded = {**MULTIPART, "content-encoding": "gzip"}
    answer = ask(app, "POST", path, content=gzip.compress(body), headers=encoded)
    assert (answer.status_code, reason(answer)) == (415, "encoded-body")
    assert "Content-Encoding" in answer.json()["title"]
    assert "Received: gzip." in answer.json()["detail"]
    assert answer.headers["accept-encoding"] == "identity"
    plain = ask(
        app, "POST", path, content=multipart([image_png()]), headers={**MULTIPART, "content-encoding": "identity"}
    )
    assert plain.status_code == 200


def test_a_body_without_a_length_is_counted_as_it_arrives(app: FastAPI) -> None:
    sent = []

    def endless() -> Iterator[bytes]:
        yield multipart([b"\x89PNG\r\n\x1a\n"])[: -len(f"\r\n--{BOUNDARY}--\r\n")]
        for _ in range(1000):
            sent.append(65536)
            yield bytes(65536)

    answer = ask(app, "POST", "/v1/screen", content=pieces(endless()), headers=MULTIPART)
    assert (answer.status_code, reason(answer)) == (413, "too-large")
    assert sum(sent) <= LIMIT + 2 * 65536


def test_a_slow_upload_is_refused(champion: ChampionWatcher[Screener], tmp_path: Path) -> None:
    app = build_app(Service(champion, limits=Limits(upload_seconds=0.3)), None, tmp_path / "no-page")
    body = multipart([image_png()])
    parts = iter([body[start : start + 100] for start in range(0, len(body), 100)])
    answer = ask(app, "POST", "/v1/screen", content=pieces(parts, pause=0.05), headers=MULTIPART)
    assert (answer.status_code, reason(answer)) == (408, "slow-upload")
    assert list(parts), "the rest is not read"


def test_a_full_queue_answers_429_with_retry_after(app: FastAPI, service: Service) -> None:
    with service.admit(), service.admit(), service.admit(), service.admit():
        answer = post(app, image_png())
    assert (answer.status_code, reason(answer)) == (429, "busy")
    assert answer.headers["retry-after"] == "1"
    assert post(app, image_png()).status_code == 200


def test_with_keys_the_api_needs_one(service: Service) -> None:
    app = build_app(service, parse_keys([KEY], ""))
    refused = post(app, image_png())
    assert (refused.status_code, reason(refused)) == (401, "no-key")
    assert refused.headers["www-authenticate"] == "Bearer"
    assert reason(post(app, image_png(), headers={"authorization": f"Bearer {KEY}x"})) == "no-key"
    for headers in ({"authorization": f"Bearer {KEY}"}, {"x-api-key": KEY}):
        assert post(app, image_png(), headers=headers, client="203.0.113.7").status_code == 200
    assert ask(app, "GET", "/v1/model").status_code == 401
    assert ask(app, "GET", "/readyz").status_code == 200


def test_without_keys_only_loopback_is_answered(app: FastAPI) -> None:
    assert reason(post(app, image_png(), client="203.0.113.7")) == "not-loopback"
    assert post(app, image_png(), client="::1").status_code == 200


def test_model_and_readiness_name_the_version(app: FastAPI) -> None:
    model = ModelAnswer.model_validate_json(ask(app, "GET", "/v1/model").content)
    assert (model.version, model.metrics["accuracy_7_class"].value) == ("v1", 80.0)
    ready = Ready.model_validate(ask(app, "GET", "/readyz").json())
    assert (ready.version, ready.refused) == ("v1", [])
    assert ask(app, "GET", "/healthz").json() == {"status": "alive"}


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/nothing", "not-found"),
        ("GET", "/v1/screen", "wrong-method"),
        ("PUT", "/v1/model", "wrong-method"),
        ("GET", "/problems/none", "not-found"),
        ("POST", "/v1/screen?explain=perhaps", "bad-parameter"),
    ],
)
def test_other_errors_are_problem_details(app: FastAPI, method: str, path: str, expected: str) -> None:
    assert reason(ask(app, method, path)) == expected


@pytest.mark.parametrize(("method", "path", "allowed"), [("GET", "/v1/screen", "POST"), ("OPTIONS", "/readyz", "GET")])
def test_a_wrong_method_is_answered_with_those_that_are_right(
    app: FastAPI, method: str, path: str, allowed: str
) -> None:
    answer = ask(app, method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/v1/model", "/docs", "/nothing"])
def test_head_is_answered_as_get_without_a_body(app: FastAPI, path: str) -> None:
    head, get = ask(app, "HEAD", path), ask(app, "GET", path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-length"] == get.headers["content-length"]
    assert ask(app, "HEAD", "/v1/screen").status_code == 405


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/screen/"), ("GET", "/docs/"), ("GET", "//readyz")])
def test_an_address_that_is_almost_right_is_a_problem_and_no_redirect(app: FastAPI, method: str, path: str) -> None:
    assert reason(ask(app, method, path)) == "not-found"


@pytest.mark.parametrize("path", ["/v1/model", "/nothing", "/problems/busy"])
def test_every_answer_has_security_headers_and_the_request_id(app: FastAPI, path: str) -> None:
    given = "ab" * 16
    answer = ask(app, "GET", path, headers={"x-request-id": given})
    assert {*HEADERS, "x-request-id"} <= {*answer.headers}
    assert answer.headers["x-request-id"] == given


def test_only_a_request_id_of_the_proxy_middleware_is_used(app: FastAPI) -> None:
    for other in ("Doe^Jane", "AB" * 16, "ab" * 17, ""):
        given = ask(app, "GET", "/readyz", headers={"x-request-id": other}).headers["x-request-id"]
        assert len(given) == 32
        assert given != other


def test_a_websocket_is_closed(app: FastAPI) -> None:
    assert websocket(app, "/v1/screen") == CLOSED


def test_an_answer_that_has_begun_is_not_followed_by_another(app: FastAPI, caplog: pytest.LogCaptureFixture) -> None:
    def halves() -> Iterator[bytes]:
        yield b"half"
        raise ValueError("Doe^Jane")

    app.add_api_route("/halfway", lambda: StreamingResponse(halves()))
    with pytest.raises(AssertionError):  # of httpx's transport: the answer does not end
        ask(app, "GET", "/halfway")
    assert "internal error: ValueError" in caplog.text
    assert "Doe" not in caplog.text


def test_an_internal_error_is_reported_without_its_text(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> None:
        raise RuntimeError("Doe^Jane")

    service.champion.poll = broken  # type: ignore[method-assign]
    service._screening = broken  # type: ignore[assignment,method-assign]
    answer = post(build_app(service, None), image_png())
    assert (answer.status_code, reason(answer)) == (500, "internal-error")
    assert "Doe" not in answer.text + caplog.text
    assert answer.json()["request_id"] in caplog.text


def test_browsers_may_load_nothing_from_other_servers(app: FastAPI, service: Service, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<!doctype html><title>page</title>", encoding="utf-8")
    (tmp_path / "app.js").write_text("let a", encoding="utf-8")
    with_page = build_app(service, None, tmp_path)
    for path, kind in (("/", "text/html"), ("/page/app.js", "javascript")):
        page = ask(with_page, "GET", path)
        assert page.status_code == 200
        assert kind in page.headers["content-type"]
        assert page.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert "unsafe" not in page.headers["content-security-policy"]
        assert page.headers["x-content-type-options"] == "nosniff"
    assert reason(ask(with_page, "GET", "/page/../app.py")) == "not-found"
    assert reason(ask(app, "GET", "/")) == "not-found"


def test_docs_load_nothing_and_list_every_route(app: FastAPI) -> None:
    page = ask(app, "GET", "/docs")
    style = page.text.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in page.headers["content-security-policy"]
    assert "<script" not in page.text
    assert "src=" not in page.text
    for path in ("/v1/screen", "/v1/screen/batch", "/v1/model", "/readyz"):
        assert path in page.text


def test_the_examples_in_the_openapi_document_are_valid(app: FastAPI) -> None:
    document = ask(app, "GET", "/openapi.json").json()
    for kind in (ScreenAnswer, BatchAnswer, ModelAnswer):
        for example in document["components"]["schemas"][kind.__name__]["examples"]:
            kind.model_validate_json(json.dumps(example))
    responses = document["paths"]["/v1/screen"]["post"]["responses"]
    assert {"200", "401", "413", "415", "422", "429"} <= {*responses}
    assert set(responses["200"]["content"]) == {"application/json", "application/dicom", "multipart/related"}
    assert json.dumps(document).count("binary") == 4


def test_every_problem_type_has_a_description(app: FastAPI) -> None:
    for code, kind in problems.PROBLEM_TYPES.items():
        assert ask(app, "GET", f"/problems/{code}").json()["title"] == kind.title


def test_every_route_of_the_application_is_an_own_path(service: Service) -> None:
    """The proxy middleware would otherwise look it up in Serve's route table."""
    routes = [*build_app(service, None).routes, *samples_router().routes]
    paths = {route.path for route in routes if isinstance(route, Mount | Route)}
    assert {"/v1/screen", "/samples", "/problems/{reason}", "/page"} <= paths
    assert [path for path in paths if not is_own_path(path)] == []
    assert not is_own_path("/nothing")

"""The lines of requests that pass the middleware of the proxy and the application of a replica."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cxr_platform.errors import ServingError
from cxr_platform.serving.api_keys import parse_keys
from cxr_platform.serving.app import build_app
from cxr_platform.serving.champion_watcher import ChampionWatcher
from cxr_platform.serving.proxy_middleware import ProxyMiddleware
from cxr_platform.serving.request_log import (
    OUTCOME_HEADER,
    VARIABLE,
    Outcome,
    RequestLog,
    outcome_header,
    read_outcome,
    request_line,
)
from cxr_platform.serving.screener import Screener
from cxr_platform.serving.service import Service
from tests.intake.files import dicom
from tests.serving.asgi_client import ask
from tests.serving.builders import image, image_png

KEY = "a-key-of-many-characters"


@pytest.fixture
def log(tmp_path: Path) -> Iterator[RequestLog]:
    with closing(RequestLog(str(tmp_path / "log"))) as made:
        yield made


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_line_says_who_asked_and_what_was_decided_and_nothing_of_the_image(
    tmp_path: Path, champion: ChampionWatcher[Screener], log: RequestLog
) -> None:
    keys = parse_keys([f"ward:{KEY}"], "")
    app = ProxyMiddleware(build_app(Service(champion), keys, tmp_path), keys, log=log)
    headers = {"x-api-key": KEY, "x-patient": "Doe"}

    def post(*files: bytes, path: str = "/v1/screen?patient=Doe") -> Any:
        sent = [("file", ("Doe.png", data)) for data in files]
        return ask(app, "POST", path, files=sent, headers=headers)

    answers = [
        post(image_png()),
        post(b"PK Doe"),
        post(image_png(), dicom(image(0))[:2000], path="/v1/screen/batch"),
        ask(app, "GET", "/v1/model", headers=headers),
        ask(app, "GET", "/Doe"),
        ask(app, "POST", "/v1/screen"),
    ]
    assert not [answer for answer in answers if OUTCOME_HEADER.decode() in answer.headers]
    written = lines(tmp_path / "log")
    assert [line["request_id"] for line in written] == [answer.headers["x-request-id"] for answer in answers]
    assert [line["status"] for line in written] == [answer.status_code for answer in answers]
    decision = answers[0].json()["decision"]
    stated = [(line["status"], line["reason"], line["key"], line["version"], line["decision"]) for line in written]
    assert stated == [
        (200, None, "ward", "v1", decision),
        (415, "not-an-image", "ward", None, None),
        (200, None, "ward", "v1", [decision, "undecodable"]),
        (200, None, "ward", None, None),
        (404, "not-found", None, None, None),
        (401, "no-key", None, None, None),
    ]
    routes = ["/v1/screen", "/v1/screen", "/v1/screen/batch", "/v1/model", "other", "/v1/screen"]
    assert [line["route"] for line in written] == routes
    stages = [{*line["milliseconds"]} for line in written]
    assert stages[0] == {"body", "upload", "waiting", "decode", "inference", "replica", "total"}
    assert stages[1:] == [{"body", "replica", "total"}] * 2 + [{"replica", "total"}] * 2 + [{"total"}]
    times = written[0]["milliseconds"]
    assert times["body"] + times["replica"] <= times["total"] + 0.02, "rounded to hundredths"
    assert times["upload"] + times["waiting"] + times["decode"] + times["inference"] <= times["replica"] + 0.03
    assert written[0]["time"].endswith("Z")
    assert "Doe" not in (tmp_path / "log").read_text(encoding="utf-8")


def test_the_outcome_of_a_replica_passes_in_a_header() -> None:
    name, value = outcome_header(reason="busy", milliseconds={"replica": 1.5})
    assert name == OUTCOME_HEADER
    assert read_outcome(value) == Outcome(reason="busy", milliseconds={"replica": 1.5})
    for other in (b"", b"[]", b'{"patient":"Doe"}', b"\xff"):
        assert read_outcome(other) == Outcome(), "of another application"


def write(log: RequestLog, request_id: str) -> None:
    log.write(request_line(request_id, "/", 200, None, Outcome(), {"total": 0.1}))


def test_a_file_that_was_renamed_is_begun_anew(tmp_path: Path, log: RequestLog) -> None:
    path = tmp_path / "log"
    write(log, "1")
    path.rename(tmp_path / "log.1")
    write(log, "2")
    assert [line["request_id"] for line in lines(path) + lines(tmp_path / "log.1")] == ["2", "1"]
    assert not [file for file in tmp_path.iterdir() if file.stat().st_mode & 0o027], "both are private"


def test_without_a_file_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    write(RequestLog.from_environment(), "1")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "log"))
    with closing(RequestLog.from_environment()) as log:
        write(log, "1")
    assert lines(tmp_path / "log")[0]["milliseconds"] == {"total": 100.0}


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none" / "log"):
        with pytest.raises(ServingError, match="Expected to be able to write the request log"):
            RequestLog(str(path))

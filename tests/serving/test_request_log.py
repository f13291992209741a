"""The lines of replicas; those of proxies are in test_proxy_middleware."""

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
from cxr_platform.serving.request_log import VARIABLE, RequestLog
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
    app = build_app(Service(champion), parse_keys([f"ward:{KEY}"], ""), tmp_path, log)
    headers = {"x-api-key": KEY, "x-patient": "Doe"}

    def post(*files: bytes, path: str = "/v1/screen?patient=Doe") -> Any:
        sent = [("file", ("Doe.png", data)) for data in files]
        return ask(app, "POST", path, files=sent, headers=headers)

    answers = [
        post(image_png()),
        post(b"PK Doe"),
        post(image_png(), dicom(image(0))[:2000], path="/v1/screen/batch"),
        ask(app, "GET", "/Doe"),
        ask(app, "POST", "/v1/screen"),
    ]
    written = lines(tmp_path / "log")
    assert [line["request_id"] for line in written] == [answer.headers["x-request-id"] for answer in answers]
    assert (
        [line["status"] for line in written] == [answer.status_code for answer in answers] == [200, 415, 200, 404, 401]
    )
    decision = answers[0].json()["decision"]
    assert [line["decision"] for line in written] == [decision, None, [decision, "undecodable"], None, None]
    assert [line["reason"] for line in written] == [None, "not-an-image", None, "not-found", "no-key"]
    assert [line["key"] for line in written] == ["ward", "ward", "ward", None, None]
    assert [line["version"] for line in written] == ["v1", None, "v1", None, None]
    assert [line["route"] for line in written] == [
        "/v1/screen",
        "/v1/screen",
        "/v1/screen/batch",
        "other",
        "/v1/screen",
    ]
    assert {*written[0]["milliseconds"]} == {"upload", "waiting", "decode", "inference", "total"}
    assert written[0]["time"].endswith("Z")
    assert "Doe" not in (tmp_path / "log").read_text(encoding="utf-8")


def test_a_file_that_was_renamed_is_begun_anew(tmp_path: Path, log: RequestLog) -> None:
    path = tmp_path / "log"
    log.write("1", "/", 200, 0.1, {})
    path.rename(tmp_path / "log.1")
    log.write("2", "/", 200, 0.1, {})
    assert [line["request_id"] for line in lines(path) + lines(tmp_path / "log.1")] == ["2", "1"]
    assert not [file for file in tmp_path.iterdir() if file.stat().st_mode & 0o027], "both are private"


def test_without_a_file_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    RequestLog.from_environment().write("1", "/", 200, 0.1, {})
    monkeypatch.setenv(VARIABLE, str(tmp_path / "log"))
    with closing(RequestLog.from_environment()) as log:
        log.write("1", "/", 200, 0.1, {})
    assert lines(tmp_path / "log")[0]["milliseconds"] == {"total": 100.0}


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none" / "log"):
        with pytest.raises(ServingError, match="Expected to be able to write the request log"):
            RequestLog(str(path))

"""Answers of a server and of a local bundle are the same; errors, retries and timeouts of servers."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn

from cxr_platform.errors import ServingError, StorageError
from cxr_platform.serving import client
from cxr_platform.serving.api_keys import load_keys
from cxr_platform.serving.app import build_app
from cxr_platform.serving.client import local_screen, read_file, remote_screen
from cxr_platform.serving.problems import Problem
from cxr_platform.serving.schema import ProblemAnswer, ScreenAnswer
from cxr_platform.serving.service import Service
from cxr_platform.serving.upload import Limits
from pipelines import serve
from tests.serving.builders import image_png
from tests.serving.planned_server import PlannedHandler, planned_server

KEY = "a-key-of-more-than-sixteen-letters"


@contextmanager
def server(champion: Any, key: str = "") -> Iterator[str]:
    keys = load_keys(None, {"CXR_API_KEYS": key}) if key else None
    made = uvicorn.Server(uvicorn.Config(build_app(Service(champion), keys), port=0, log_level="error"))
    thread = threading.Thread(target=made.run)
    thread.start()
    try:
        while not made.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{made.servers[0].sockets[0].getsockname()[1]}"
    finally:
        made.should_exit = True
        thread.join()


def test_a_server_and_a_local_bundle_give_the_same_answer(champion, screener) -> None:
    with server(champion) as url, remote_screen(url) as ask:
        for seed in range(3):
            there, here = ask(image_png(seed)), local_screen(screener)(image_png(seed))
            assert isinstance(there, ScreenAnswer)
            assert isinstance(here, ScreenAnswer)
            assert there.probabilities == pytest.approx(here.probabilities, abs=1e-4)
            timed = {"request_id", "timings_ms"}
            assert there.model_dump(exclude=timed) == here.model_dump(exclude=timed)


@pytest.mark.parametrize("data", [b"", b"no image", b"\x89PNG\r\n\x1a\n cut"])
def test_a_server_and_a_local_bundle_give_the_same_problem(champion, screener, data: bytes) -> None:
    with server(champion) as url, remote_screen(url) as ask:
        there, here = ask(data), local_screen(screener)(data)
    assert isinstance(there, ProblemAnswer)
    assert there.model_dump(exclude={"request_id"}) == here.model_dump(exclude={"request_id"})


def test_a_missing_key_is_an_error(champion) -> None:
    with server(champion, KEY) as url:
        with remote_screen(url, KEY) as ask:
            assert isinstance(ask(image_png()), ScreenAnswer)
        with remote_screen(url) as ask, pytest.raises(ServingError, match=r"API key.*status 401"):
            ask(image_png())


def test_a_busy_server_is_asked_again_after_retry_after(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(client, "time", SimpleNamespace(sleep=waits.append))
    busy = (429, {"Retry-After": "7"}, Problem("busy").body("1"))
    odd = (503, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, b"starting")
    refused = (422, {}, Problem("undecodable").body("2"))
    with planned_server(busy, odd, busy, refused) as url, remote_screen(url) as ask:
        reply = ask(b"image")
    assert isinstance(reply, ProblemAnswer)
    assert reply.reason == "undecodable"
    assert PlannedHandler.requests == 4
    assert waits == [7, 1, 7]


def test_a_busy_server_is_asked_ten_times_at_most() -> None:
    busy = (429, {"Retry-After": "0"}, Problem("busy").body("1"))
    with planned_server(busy) as url, remote_screen(url) as ask:
        reply = ask(b"image")
    assert isinstance(reply, ProblemAnswer)
    assert reply.reason == "busy"
    assert PlannedHandler.requests == 10


def test_a_slow_server_is_not_reported_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with (
            remote_screen(url) as ask,
            pytest.raises(ServingError, match=r"within 0\.3 s.*but the server accepts connections"),
        ):
            ask(b"image")


def test_a_client_waits_longer_than_a_server_needs_to_time_out() -> None:
    assert serve.REQUEST_SECONDS + Limits().upload_seconds < client.ANSWER_SECONDS


def test_a_file_above_the_limit_is_refused_without_sending_it(screener) -> None:
    large = image_png() + bytes(client.MAX_FILE_BYTES)
    with planned_server((500, {}, b"never requested")) as url, remote_screen(url) as ask:
        there, here = ask(large), local_screen(screener)(large)
    assert isinstance(there, ProblemAnswer)
    assert there.model_dump(exclude={"request_id"}) == here.model_dump(exclude={"request_id"})
    assert (there.reason, there.status, PlannedHandler.requests) == ("too-large", 413, 0)


def test_a_file_of_the_largest_size_is_accepted_by_the_server(champion) -> None:
    with server(champion) as url, remote_screen(url) as ask:
        reply = ask(bytes(client.MAX_FILE_BYTES))
    assert isinstance(reply, ProblemAnswer)
    assert reply.reason == "not-an-image"


def test_another_kind_of_server_is_an_error() -> None:
    with (
        planned_server((200, {}, b"<html>")) as url,
        remote_screen(url) as ask,
        pytest.raises(ServingError, match="status 200"),
    ):
        ask(b"image")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "no address"])
def test_a_server_that_cannot_be_reached_is_an_error(url: str) -> None:
    with remote_screen(url) as ask, pytest.raises(ServingError, match="make serve"):
        ask(b"image")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nowhere"):
        read_file(tmp_path / "nowhere.png")

"""The same answer from a bundle at hand and from a server; what a server may say instead."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import uvicorn

from cxr_platform.errors import ServingError, StorageError
from cxr_platform.serving import client
from cxr_platform.serving.app import build_app
from cxr_platform.serving.client import local, read, remote
from cxr_platform.serving.keys import find_keys
from cxr_platform.serving.problems import Problem
from cxr_platform.serving.schema import ProblemAnswer, ScreenAnswer
from cxr_platform.serving.service import Service
from cxr_platform.serving.upload import Limits
from pipelines import serve
from tests.serving.builders import image_png

KEY = "a key of more than sixteen letters"


@contextmanager
def server(champion: Any, key: str = "") -> Iterator[str]:
    keys = find_keys(None, {"CXR_API_KEYS": key}) if key else None
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


class Saying(BaseHTTPRequestHandler):
    """Answers what `plan` says, one after the other, and the last for ever."""

    plan: ClassVar[list[tuple[int, dict[str, str], bytes]]] = []
    asked: ClassVar[int] = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status, headers, body = self.plan[min(Saying.asked, len(self.plan) - 1)]
        Saying.asked += 1
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def saying(*plan: tuple[int, dict[str, str], bytes]) -> Iterator[str]:
    Saying.plan, Saying.asked = list(plan), 0
    made = ThreadingHTTPServer(("127.0.0.1", 0), Saying)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{made.server_address[1]}"
    finally:
        made.shutdown()
        made.server_close()
        thread.join()


def test_a_server_and_the_bundle_itself_say_the_same(champion, screener) -> None:
    with server(champion) as url, remote(url) as ask:
        for seed in range(3):
            there, here = ask(image_png(seed)), local(screener)(image_png(seed))
            assert isinstance(there, ScreenAnswer)
            assert isinstance(here, ScreenAnswer)
            assert there.probabilities == pytest.approx(here.probabilities, abs=1e-4)
            timed = {"request_id", "timings_ms"}
            assert there.model_dump(exclude=timed) == here.model_dump(exclude=timed)


@pytest.mark.parametrize("data", [b"", b"no image", b"\x89PNG\r\n\x1a\n cut"])
def test_what_is_no_image_is_the_same_problem(champion, screener, data: bytes) -> None:
    with server(champion) as url, remote(url) as ask:
        there, here = ask(data), local(screener)(data)
    assert isinstance(there, ProblemAnswer)
    assert there.model_dump(exclude={"request_id"}) == here.model_dump(exclude={"request_id"})


def test_a_key_is_needed_where_the_server_has_some(champion) -> None:
    with server(champion, KEY) as url:
        with remote(url, KEY) as ask:
            assert isinstance(ask(image_png()), ScreenAnswer)
        with remote(url) as ask, pytest.raises(ServingError, match=r"API key.*status 401"):
            ask(image_png())


def test_it_comes_back_when_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(client, "time", SimpleNamespace(sleep=waits.append))
    busy = (429, {"Retry-After": "7"}, Problem("busy").body("1"))
    odd = (503, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, b"starting")
    refused = (422, {}, Problem("undecodable").body("2"))
    with saying(busy, odd, busy, refused) as url, remote(url) as ask:
        reply = ask(b"image")
    assert isinstance(reply, ProblemAnswer)
    assert reply.reason == "undecodable"
    assert Saying.asked == 4
    assert waits == [7, 1, 7]


def test_it_does_not_come_back_for_ever() -> None:
    busy = (429, {"Retry-After": "0"}, Problem("busy").body("1"))
    with saying(busy) as url, remote(url) as ask:
        reply = ask(b"image")
    assert isinstance(reply, ProblemAnswer)
    assert reply.reason == "busy"
    assert Saying.asked == 10


def test_a_server_that_is_too_slow_is_told_apart_from_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with remote(url) as ask, pytest.raises(ServingError, match=r"within 0\.3 s.*though a server is there"):
            ask(b"image")


def test_a_client_waits_longer_than_a_server_needs_to_give_up() -> None:
    assert serve.REQUEST_SECONDS + Limits().upload_seconds < client.ANSWER_SECONDS


def test_a_file_that_no_server_takes_is_refused_alike_without_one(screener) -> None:
    large = image_png() + bytes(client.MOST_BYTES)
    with saying((500, {}, b"not to be asked")) as url, remote(url) as ask:
        there, here = ask(large), local(screener)(large)
    assert isinstance(there, ProblemAnswer)
    assert there.model_dump(exclude={"request_id"}) == here.model_dump(exclude={"request_id"})
    assert (there.reason, there.status, Saying.asked) == ("too-large", 413, 0)


def test_the_largest_file_that_is_sent_is_one_that_the_server_takes(champion) -> None:
    with server(champion) as url, remote(url) as ask:
        reply = ask(b"no image" + bytes(client.MOST_BYTES - 7))
    assert isinstance(reply, ProblemAnswer)
    assert reply.reason == "not-an-image"


def test_another_sort_of_server_is_told_apart_from_a_problem() -> None:
    with saying((200, {}, b"<html>")) as url, remote(url) as ask, pytest.raises(ServingError, match="status 200"):
        ask(b"image")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "no address"])
def test_no_server_is_said_with_its_address(url: str) -> None:
    with remote(url) as ask, pytest.raises(ServingError, match="make serve"):
        ask(b"image")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nowhere"):
        read(tmp_path / "nowhere.png")

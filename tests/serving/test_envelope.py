"""Round an application that notes what reaches it."""

import hashlib
from typing import Any

import pytest

from cxr_platform.serving.envelope import HEADERS, POLICY, Envelope
from cxr_platform.serving.keys import Keys
from cxr_platform.serving.metrics import NoMetrics
from tests.serving.asking import ask, reason

KEY = "a key of many characters"
KEYS = Keys((hashlib.sha256(KEY.encode()).digest(),))


class Counted(NoMetrics):
    def __init__(self) -> None:
        self.requests: list[tuple[str, int]] = []

    def request(self, route: str, status: int) -> None:
        self.requests.append((route, status))


async def inner(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] == "/broken":
        raise ValueError("Doe^Jane")
    headers = [(b"content-type", b"text/plain"), (b"cache-control", b"public")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if scope["path"] == "/halfway":
        raise ValueError("Doe^Jane")
    await send({"type": "http.response.body", "body": scope["state"]["request_id"].encode()})


@pytest.fixture
def counted() -> Counted:
    return Counted()


def test_every_answer_has_the_headers_and_the_id_of_its_request(counted: Counted) -> None:
    answer = ask(Envelope(inner, None, counted), "GET", "/v1/model")
    assert {*HEADERS, "x-request-id"} <= {*answer.headers}
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["cache-control"] == "public"
    assert answer.headers["x-request-id"] == answer.text
    assert len(answer.text) == 32


def test_only_an_id_of_our_making_is_taken_over(counted: Counted) -> None:
    app = Envelope(inner, None, counted)
    assert ask(app, "GET", "/", headers={"x-request-id": "ab" * 16}).text == "ab" * 16
    for other in ("Doe^Jane", "AB" * 16, "ab" * 17, ""):
        assert ask(app, "GET", "/", headers={"x-request-id": other}).text != other


def test_a_defect_is_a_problem_and_an_answer_that_has_begun_is_left(counted: Counted) -> None:
    app = Envelope(inner, None, counted)
    broken = ask(app, "GET", "/broken")
    assert (broken.status_code, reason(broken)) == (500, "defect")
    assert "Doe" not in broken.text
    with pytest.raises(AssertionError):  # of the transport: the answer does not end
        ask(app, "GET", "/halfway")


def test_requests_are_counted_by_route_and_never_by_path(counted: Counted) -> None:
    app = Envelope(inner, None, counted)
    for path in ("/v1/screen", "/page/app.js", "/Doe/Jane", "/broken", "/"):
        ask(app, "GET", path)
    assert counted.requests == [("/v1/screen", 200), ("/page", 200), ("other", 200), ("other", 500), ("/", 200)]


@pytest.mark.parametrize("client", ["203.0.113.7", "10.0.0.1", "2001:db8::1", "unix", ""])
def test_without_keys_other_machines_get_nothing_at_all(counted: Counted, client: str) -> None:
    for path in ("/", "/v1/model", "/healthz"):
        assert reason(ask(Envelope(inner, None, counted), "GET", path, client=client)) == "not-loopback"


def test_keys_open_what_answers_images_and_the_page_needs_none(counted: Counted) -> None:
    app = Envelope(inner, KEYS, counted)
    assert reason(ask(app, "GET", "/v1/model", client="203.0.113.7")) == "no-key"
    assert ask(app, "GET", "/v1/model", client="203.0.113.7", headers={"x-api-key": KEY}).status_code == 200
    assert ask(app, "GET", "/", client="203.0.113.7").status_code == 200

"""The middleware around a small application."""

from typing import Any

import pytest

from cxr_platform.serving.api_keys import parse_keys
from cxr_platform.serving.metrics import ServingMetrics
from cxr_platform.serving.replica_middleware import CONTENT_SECURITY_POLICY, HEADERS, ReplicaMiddleware
from tests.serving.asgi_client import CLOSED, ask, reason, websocket

KEY = "a-key-of-many-characters"
KEYS = parse_keys([KEY], "")


class CountedRequests(ServingMetrics):
    def __init__(self) -> None:
        self.requests: list[tuple[str, int]] = []

    def count_request(self, route: str, status: int, key: str | None = None) -> None:  # noqa: ARG002
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
def counted() -> CountedRequests:
    return CountedRequests()


def test_every_answer_has_security_headers_and_the_request_id(counted: CountedRequests) -> None:
    answer = ask(ReplicaMiddleware(inner, None, counted), "GET", "/v1/model")
    assert {*HEADERS, "x-request-id"} <= {*answer.headers}
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert answer.headers["cache-control"] == "public"
    assert answer.headers["x-request-id"] == answer.text
    assert len(answer.text) == 32


def test_only_a_request_id_of_the_proxy_middleware_is_used(counted: CountedRequests) -> None:
    app = ReplicaMiddleware(inner, None, counted)
    assert ask(app, "GET", "/", headers={"x-request-id": "ab" * 16}).text == "ab" * 16
    for other in ("Doe^Jane", "AB" * 16, "ab" * 17, ""):
        assert ask(app, "GET", "/", headers={"x-request-id": other}).text != other


def test_a_websocket_is_closed(counted: CountedRequests) -> None:
    assert websocket(ReplicaMiddleware(inner, None, counted), "/v1/screen") == CLOSED


def test_an_exception_becomes_a_problem_unless_the_answer_has_begun(counted: CountedRequests) -> None:
    app = ReplicaMiddleware(inner, None, counted)
    broken = ask(app, "GET", "/broken")
    assert (broken.status_code, reason(broken)) == (500, "internal-error")
    assert "Doe" not in broken.text
    with pytest.raises(AssertionError):  # of httpx's transport: the answer does not end
        ask(app, "GET", "/halfway")


def test_requests_are_counted_by_route_and_never_by_path(counted: CountedRequests) -> None:
    app = ReplicaMiddleware(inner, None, counted)
    for path in ("/v1/screen", "/page/app.js", "/Doe/Jane", "/broken", "/"):
        ask(app, "GET", path)
    assert counted.requests == [("/v1/screen", 200), ("/page", 200), ("other", 200), ("other", 500), ("/", 200)]


@pytest.mark.parametrize("client", ["203.0.113.7", "10.0.0.1", "2001:db8::1", "unix", ""])
def test_without_keys_clients_on_other_machines_are_rejected(counted: CountedRequests, client: str) -> None:
    for path in ("/", "/v1/model", "/healthz"):
        assert reason(ask(ReplicaMiddleware(inner, None, counted), "GET", path, client=client)) == "not-loopback"


def test_a_key_is_needed_for_the_api_but_not_for_the_page(counted: CountedRequests) -> None:
    app = ReplicaMiddleware(inner, KEYS, counted)
    assert reason(ask(app, "GET", "/v1/model", client="203.0.113.7")) == "no-key"
    assert ask(app, "GET", "/v1/model", client="203.0.113.7", headers={"x-api-key": KEY}).status_code == 200
    assert ask(app, "GET", "/", client="203.0.113.7").status_code == 200

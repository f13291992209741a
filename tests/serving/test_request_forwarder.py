import asyncio
from typing import Any

import httpx
import pytest

from cxr_platform.serving.problems import Problem
from cxr_platform.serving.request_forwarder import ATTEMPTS, RequestForwarder, forwarded_headers, traceparent
from cxr_platform.serving.upload import Disconnected
from tests.serving.asgi_client import ask
from tests.serving.fake_serve import PLAIN, FakeServe, read_all

TRACE = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"


def forwarded(serve: Any, attempts: int = ATTEMPTS) -> httpx.Response:
    """The answer to a request with the body `a body` that is forwarded to `serve`."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await RequestForwarder(serve).forward(scope, await read_all(receive), receive, send, attempts)

    return ask(app, "POST", "/predict?explain=true", content=b"a body")


def scope_with(headers: dict[str, str]) -> dict[str, Any]:
    return {"headers": [(name.encode(), value.encode()) for name, value in headers.items()]}


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("deaths", range(ATTEMPTS))
def test_a_request_is_repeated_unchanged_until_a_replica_answers(deaths: int, late: bool) -> None:
    serve = FakeServe(deaths=deaths, late=late)
    answer = forwarded(serve)
    assert (answer.status_code, answer.content) == (200, b"a body")
    assert serve.scopes == [serve.scopes[0]] * (deaths + 1)
    assert (b"host", b"localhost") in serve.scopes[-1]["headers"]


@pytest.mark.parametrize("attempts", [1, 2])
def test_a_request_is_sent_as_often_as_it_may(attempts: int) -> None:
    serve = FakeServe(deaths=100)
    with pytest.raises(Problem) as problem:
        forwarded(serve, attempts)
    assert (problem.value.reason, len(serve.scopes)) == ("unavailable", attempts)


@pytest.mark.parametrize(
    ("status", "reason"), [(429, "busy"), (503, "unavailable"), (408, "unavailable"), (404, "not-found")]
)
def test_an_error_of_serve_itself_is_a_problem_and_not_repeated(status: int, reason: str) -> None:
    serve = FakeServe(status=status, headers=PLAIN)
    with pytest.raises(Problem) as problem:
        forwarded(serve)
    assert (problem.value.reason, len(serve.scopes)) == (reason, 1)


def test_an_error_of_the_application_is_forwarded_unchanged() -> None:
    answer = forwarded(FakeServe(status=422))
    assert (answer.status_code, answer.content) == (422, b"a body")


def test_a_successful_answer_of_another_application_at_the_root_is_forwarded() -> None:
    answer = forwarded(FakeServe(headers=PLAIN))
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, b"a body", "text/plain")


def test_a_client_that_disconnects_is_not_taken_for_a_dead_replica() -> None:
    """Serve's proxy then sends no answer, as when a replica dies."""
    calls: list[Any] = []

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        calls.append(await receive())
        assert await receive() == {"type": "http.disconnect"}

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError(message)

    with pytest.raises(Disconnected):
        asyncio.run(RequestForwarder(serve).forward({"headers": []}, b"a body", receive, send))
    assert calls == [{"type": "http.request", "body": b"a body", "more_body": False}]


def test_headers_that_control_serve_or_are_not_read_are_dropped() -> None:
    steering = {"serve_multiplexed_model_id": "x", "x-request-timeout-seconds": "1", "x-request-id": "Doe"}
    sent = {"authorization": "Bearer x", "cookie": "c", **steering}
    assert forwarded_headers(scope_with(sent), "ab" * 16) == [
        (b"authorization", b"Bearer x"),
        (b"x-request-id", b"ab" * 16),
    ]


@pytest.mark.parametrize(
    ("value", "passed"), [(TRACE, TRACE), (TRACE.upper(), None), (TRACE[:-1], None), ("Doe", None)]
)
def test_a_trace_is_passed_on_and_nothing_that_only_looks_like_one(value: str, passed: str | None) -> None:
    scope = scope_with({"traceparent": value})
    assert traceparent(scope) == passed
    assert dict(forwarded_headers(scope, "1")).get(b"traceparent") == (passed and passed.encode())


def test_the_state_of_a_trace_is_passed_on_with_its_id_only() -> None:
    passed = scope_with({"traceparent": TRACE, "tracestate": "vendor=1,other=2"})
    assert dict(forwarded_headers(passed, "1"))[b"tracestate"] == b"vendor=1,other=2"
    for headers in (
        {"tracestate": "vendor=1"},
        {"traceparent": "Doe", "tracestate": "vendor=1"},
        {"traceparent": TRACE, "tracestate": "x" * 513},
        {"traceparent": TRACE, "tracestate": "vendor=\u00e9"},
    ):
        assert b"tracestate" not in dict(forwarded_headers(scope_with(headers), "1"))

"""The middleware in front of applications that behave like Serve's proxy."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cxr_platform.serving import api_keys, routes
from cxr_platform.serving import proxy_middleware as module
from cxr_platform.serving.api_keys import ApiKeys, parse_keys
from cxr_platform.serving.batch_protocol import KEY as KEY_OF_BATCH
from cxr_platform.serving.metrics import ProxyMetrics
from cxr_platform.serving.proxy_middleware import ProxyMiddleware, middlewares
from cxr_platform.serving.request_forwarder import ATTEMPTS
from cxr_platform.serving.request_log import RequestLog, outcome_header
from cxr_platform.serving.spans import RequestSpans
from cxr_platform.serving.upload import Limits
from tests.clock import Clock, stopped_clock
from tests.serving.asgi_client import CLOSED, ask, pieces, reason, websocket
from tests.serving.fake_serve import OURS, PLAIN, FakeServe

KEY = "a-key-of-many-characters"
KEYS = parse_keys([f"ward:{KEY}"], "")
HOST = (b"host", b"localhost")
SCOPE = {"type": "http", "method": "POST", "path": "/v1/screen", "headers": [HOST], "client": ("127.0.0.1", 50000)}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return stopped_clock(monkeypatch, module)


def noted(read: list[bytes]) -> AsyncIterator[bytes]:
    """A body that notes in `read` what the server has read of it."""

    def body() -> Iterator[bytes]:
        read.append(b"x")
        yield b"x"

    return pieces(body())


class Counted(ProxyMetrics):
    """The requests that were counted, each with route, status and name of the key."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[tuple[str, int, str | None]] = []
        self.states: list[dict[str, int]] = []

    def add_request(self, route: str, status: int, key: str | None, seconds: float) -> None:
        assert seconds >= 0
        self.requests.append((route, status, key))

    def watch(self, requests: Callable[[], Any]) -> None:
        self.states.append(requests())


class Cluster:
    """Serve's proxy with its route table, our application at "/" and another one at /theirs."""

    def __init__(self, table: bytes = b'{"/": "cxr", "/theirs": "another"}') -> None:
        self.ours, self.theirs = FakeServe(status=404), FakeServe(headers=PLAIN)
        self.table = table
        self.tables = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/-/routes" and scope["type"] == "http":
            self.tables += 1
            await send({"type": "http.response.start", "status": 200, "headers": PLAIN})
            await send({"type": "http.response.body", "body": self.table})
        elif scope["path"] == "/theirs" or scope["path"].startswith("/theirs/"):
            await self.theirs(scope, receive, send)
        else:
            await self.ours(scope, receive, send)


def test_a_request_and_its_answer_are_forwarded() -> None:
    serve = FakeServe()
    answer = ask(ProxyMiddleware(serve), "POST", "/v1/screen?explain=true", content=b"a body")
    assert (answer.status_code, answer.content) == (200, b"a body")
    assert answer.headers.get_list("x-request-id") == ["1"]
    (scope,) = serve.scopes
    assert (scope["method"], scope["path"], scope["query_string"]) == ("POST", "/v1/screen", b"explain=true")


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("deaths", range(1, ATTEMPTS))
def test_a_request_is_repeated_after_a_replica_died(deaths: int, late: bool) -> None:
    serve = FakeServe(deaths=deaths, late=late)
    answer = ask(ProxyMiddleware(serve), "POST", "/v1/screen", content=b"a body")
    assert (answer.status_code, answer.content) == (200, b"a body")
    assert len(serve.scopes) == deaths + 1
    assert {name: value for name, value in serve.scopes[0].items() if name != KEY_OF_BATCH} == serve.scopes[-1]


def test_a_request_that_crashes_two_replicas_gets_503() -> None:
    serve = FakeServe(deaths=100)
    answer = ask(ProxyMiddleware(serve), "POST", "/v1/screen", content=b"a body")
    assert (answer.status_code, reason(answer)) == (503, "unavailable")
    assert answer.headers["retry-after"]
    assert len(serve.scopes) == 2


@pytest.mark.parametrize(
    ("status", "expected", "answered"),
    [(429, "busy", 429), (503, "unavailable", 503), (408, "unavailable", 503), (404, "not-found", 404)],
)
def test_errors_of_the_proxy_become_problem_details(status: int, expected: str, answered: int) -> None:
    answer = ask(ProxyMiddleware(FakeServe(status=status, headers=PLAIN)), "POST", "/v1/screen", content=b"secret")
    assert (answer.status_code, reason(answer)) == (answered, expected)
    assert "secret" not in answer.text


def test_problems_of_the_application_are_forwarded_unchanged() -> None:
    answer = ask(ProxyMiddleware(FakeServe(status=422)), "POST", "/v1/screen", content=b"a body")
    assert (answer.status_code, answer.content) == (422, b"a body")


def test_a_body_is_forwarded_only_once_it_is_complete() -> None:
    serve = FakeServe()
    impatient = ProxyMiddleware(serve, limits=Limits(upload_seconds=0.2))
    slow = ask(impatient, "POST", "/v1/screen", content=pieces([b"x"] * 100, pause=0.05))
    assert (slow.status_code, reason(slow)) == (408, "slow-upload")
    middleware = ProxyMiddleware(serve, limits=Limits(body_bytes=1000))
    large = ask(middleware, "POST", "/v1/screen", content=pieces([bytes(600)] * 2))
    assert (large.status_code, reason(large)) == (413, "too-large")
    assert serve.scopes == []
    assert ask(middleware, "POST", "/v1/screen", content=b"fits").status_code == 200


def test_a_request_without_a_key_is_rejected_before_its_body_is_read() -> None:
    serve = FakeServe()
    middleware = ProxyMiddleware(serve, keys=parse_keys([KEY], ""))
    read: list[bytes] = []
    answer = ask(middleware, "POST", "/v1/screen", content=noted(read))
    assert (answer.status_code, reason(answer)) == (401, "no-key")
    assert not read
    assert ask(middleware, "POST", "/v1/screen", content=b"x", headers={"x-api-key": KEY}).status_code == 200


@pytest.mark.parametrize("path", ["/v1/screen", "/v1/screen/batch", "/v1/model", "/problems/busy"])
def test_an_encoded_body_is_rejected_before_it_is_read(path: str) -> None:
    serve = FakeServe()
    read: list[bytes] = []
    answer = ask(ProxyMiddleware(serve), "POST", path, content=noted(read), headers={"content-encoding": "br"})
    assert (answer.status_code, reason(answer)) == (415, "encoded-body")
    assert "Received: br." in answer.json()["detail"]
    assert (read, serve.scopes) == ([], [])
    plain = ask(ProxyMiddleware(serve), "POST", path, content=b"x", headers={"content-encoding": "identity"})
    assert (plain.status_code, plain.content) == (200, b"x")


def test_without_keys_other_machines_are_rejected_before_their_body_is_read() -> None:
    serve = FakeServe()
    read: list[bytes] = []
    for client in ("203.0.113.7", "10.0.0.1", "unix"):
        answer = ask(ProxyMiddleware(serve), "POST", "/v1/screen", client=client, content=noted(read))
        assert (answer.status_code, reason(answer)) == (403, "not-loopback")
        assert reason(ask(ProxyMiddleware(serve), "GET", "/v1/model", client=client)) == "not-loopback"
    assert (read, serve.scopes) == ([], [])


def test_without_keys_another_website_is_rejected_before_its_body_is_read() -> None:
    """Headers that are not forwarded are checked too."""
    serve = FakeServe()
    read: list[bytes] = []
    for header, expected in (
        ({"origin": "http://evil.example"}, "cross-site"),
        ({"sec-fetch-site": "cross-site"}, "cross-site"),
        ({"host": "evil.example"}, "wrong-host"),
        ({"via": "1.1 proxy"}, "not-loopback"),
    ):
        answer = ask(ProxyMiddleware(serve), "POST", "/v1/screen", content=noted(read), headers=header)
        assert (answer.status_code, reason(answer)) == (403, expected)
    assert (read, serve.scopes) == ([], [])


def test_every_request_is_counted_once() -> None:
    metrics = Counted()

    def middleware(serve: FakeServe, **options: Any) -> ProxyMiddleware:
        return ProxyMiddleware(serve, metrics=metrics, **options)

    ask(middleware(FakeServe()), "POST", "/v1/screen", content=b"answered by a replica")
    ask(middleware(FakeServe(status=422)), "POST", "/v1/screen", content=b"refused by a replica")
    ask(middleware(FakeServe(deaths=1)), "POST", "/v1/screen", content=b"answered by another replica")
    ask(middleware(FakeServe(status=429, headers=PLAIN)), "POST", "/v1/screen", content=b"x")
    ask(middleware(FakeServe(deaths=100)), "POST", "/v1/screen/batch", content=b"x")
    ask(middleware(FakeServe(), limits=Limits(body_bytes=1)), "POST", "/Doe/Jane", content=b"xx")
    ask(middleware(FakeServe(), keys=ApiKeys(())), "POST", "/v1/screen", content=b"x")
    ask(middleware(FakeServe()), "GET", "/healthz")
    key = {"x-api-key": KEY}
    ask(middleware(FakeServe(), keys=KEYS), "GET", "/v1/model", headers=key)
    ask(middleware(FakeServe(status=429, headers=PLAIN), keys=KEYS), "POST", "/v1/screen", content=b"x", headers=key)
    assert metrics.requests == [
        ("/v1/screen", 200, None),
        ("/v1/screen", 422, None),
        ("/v1/screen", 200, None),
        ("/v1/screen", 429, None),
        ("/v1/screen/batch", 503, None),
        ("other", 413, None),
        ("/v1/screen", 401, None),
        ("/healthz", 200, None),
        ("/v1/model", 200, "ward"),
        ("/v1/screen", 429, "ward"),
    ]


def test_every_request_is_logged_without_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    stopped_clock(monkeypatch, api_keys)
    limited = parse_keys([f"ward:{KEY} limit=1"], "")
    log = RequestLog(str(path))
    stated = outcome_header(decision="negative", version="v3", milliseconds={"replica": 1.5})
    middleware = ProxyMiddleware(FakeServe(headers=[*OURS, stated]), keys=limited, log=log)
    secret = {"x-api-key": KEY, "x-patient": "Doe", "content-type": "Doe"}
    first = ask(middleware, "POST", "/v1/screen?name=Doe", content=b"Doe", headers=secret)
    assert (first.status_code, [name for name in first.headers if "outcome" in name]) == (200, [])
    limit = ask(middleware, "POST", "/v1/screen?name=Doe", content=b"Doe", headers=secret)
    assert (limit.status_code, reason(limit), limit.headers["retry-after"]) == (429, "key-limit", "60")
    unknown = ask(middleware, "POST", "/Doe", content=b"Doe")
    log.close()
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [(line["key"], line["route"], line["status"], line["reason"], line["decision"]) for line in lines] == [
        ("ward", "/v1/screen", 200, None, "negative"),
        ("ward", "/v1/screen", 429, "key-limit", None),
        (None, "other", 401, "no-key", None),
    ]
    assert [{*line["milliseconds"]} for line in lines] == [{"body", "replica", "total"}, {"total"}, {"total"}]
    assert [line["request_id"] for line in lines[1:]] == [answer.headers["x-request-id"] for answer in (limit, unknown)]
    assert not {"Doe", KEY} & {*re.findall(r"[\w-]+", path.read_text(encoding="utf-8"))}


def test_every_request_is_a_span_in_the_clients_trace() -> None:
    sdk = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter", reason="Ray brings it")
    exporter = sdk.InMemorySpanExporter()
    spans = RequestSpans(exporter)
    stated = outcome_header(decision="negative", version="v3", milliseconds={"replica": 1.5})
    middleware = ProxyMiddleware(FakeServe(headers=[*OURS, stated]), spans=spans)
    trace = "ab" * 16
    ask(middleware, "POST", "/v1/screen", content=b"x", headers={"traceparent": f"00-{trace}-{'cd' * 8}-01"})
    ask(middleware, "GET", "/v1/model", headers={"traceparent": "Doe"})
    spans.close()
    screen, model = exporter.get_finished_spans()
    assert (screen.name, f"{screen.context.trace_id:032x}") == ("/v1/screen", trace)
    assert screen.attributes["cxr.decisions"] == ("negative",)
    assert screen.attributes["cxr.milliseconds.replica"] == 1.5
    assert (model.name, model.parent) == ("/v1/model", None)


def test_an_exception_becomes_a_problem_that_is_counted_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: Any) -> None:
        raise ValueError("Doe^Jane")

    metrics, log = Counted(), RequestLog(str(tmp_path / "log"))
    middleware = ProxyMiddleware(broken, metrics=metrics, log=log)
    answer = ask(middleware, "GET", "/v1/model")
    log.close()
    assert (answer.status_code, reason(answer)) == (500, "internal-error")
    assert metrics.requests == [("/v1/model", 500, None)]
    assert json.loads((tmp_path / "log").read_text(encoding="utf-8"))["reason"] == "internal-error"
    assert "ValueError at " in caplog.text
    assert "Doe" not in caplog.text


def test_held_bytes_are_released(clock: Clock) -> None:
    middleware = ProxyMiddleware(FakeServe(), max_held_bytes=1000)
    assert reason(ask(middleware, "POST", "/v1/screen", content=bytes(1001))) == "busy"
    clock.turn(2)
    for _ in range(3):
        assert ask(middleware, "POST", "/v1/screen", content=bytes(900)).status_code == 200


def test_two_large_bodies_share_the_held_bytes() -> None:
    async def both() -> list[int]:
        middleware = ProxyMiddleware(FakeServe(), max_held_bytes=1000)
        held, answered = asyncio.Event(), asyncio.Event()

        async def halves() -> AsyncIterator[bytes]:
            yield bytes(300)
            held.set()
            await answered.wait()
            yield bytes(300)

        async with httpx.AsyncClient(transport=httpx.ASGITransport(middleware), base_url="http://localhost") as http:
            first = asyncio.create_task(http.post("/v1/screen", content=halves()))
            await held.wait()
            second = await http.post("/v1/screen", content=bytes(800))
            answered.set()
            return [(await first).status_code, second.status_code]

    assert asyncio.run(both()) == [200, 429]


def test_a_flood_of_requests_without_a_key_leaves_places_for_those_with_one() -> None:
    async def flooded() -> tuple[list[int], int, int, int]:
        serve, waiting, answered = FakeServe(), asyncio.Event(), asyncio.Event()
        places = module.MAX_KEYLESS_REQUESTS

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            if len(serve.scopes) < places:
                serve.scopes.append(scope)
                if len(serve.scopes) == places:
                    waiting.set()
                await answered.wait()
            await serve(scope, receive, send)

        transport = httpx.ASGITransport(ProxyMiddleware(slow, keys=KEYS))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            flood = [asyncio.create_task(http.get(path)) for path in ("/", "/docs", "/readyz", "/page/app.js") * 4]
            await waiting.wait()
            refused = await http.get("/")
            assert reason(refused) == "busy"
            keyed = await http.get("/v1/model", headers={"x-api-key": KEY})
            answered.set()
            statuses = [answer.status_code for answer in await asyncio.gather(*flood)]
            return statuses, refused.status_code, keyed.status_code, (await http.get("/")).status_code

    assert asyncio.run(flooded()) == ([200] * module.MAX_KEYLESS_REQUESTS, 429, 200, 200)


def test_while_the_queue_is_full_bodies_are_not_read(clock: Clock) -> None:
    serve = FakeServe(status=429, headers=PLAIN)
    middleware, read = ProxyMiddleware(serve), list[bytes]()
    assert reason(ask(middleware, "POST", "/v1/screen", content=b"x")) == "busy"
    refused = ask(middleware, "POST", "/v1/screen", content=noted(read))
    assert (reason(refused), refused.headers["retry-after"]) == ("busy", "1")
    assert (len(serve.scopes), read) == (1, [])
    assert ask(middleware, "GET", "/readyz").status_code == 429
    clock.turn(2)
    serve.status, serve.headers = 200, OURS
    for _ in range(2):
        assert ask(middleware, "POST", "/v1/screen", content=b"x").status_code == 200


@pytest.mark.parametrize(
    ("scope", "received"),
    [
        ({"query_string": b"name=Doe"}, []),
        ({}, [{"type": "http.request", "body": b"Doe", "more_body": True}]),
        ({}, [{"type": "http.request", "body": b"Doe", "more_body": False}]),
        ({"query_string": b"name=Doe"}, [{"type": "http.request", "body": b"Doe", "more_body": False}]),
    ],
    ids=["before the body", "in the body", "in a batch", "alone"],
)
def test_a_client_that_leaves_gets_no_answer_and_is_counted_and_logged_as_499(
    tmp_path: Path, scope: dict[str, bytes], received: list[Any]
) -> None:
    messages = iter([*received, *[{"type": "http.disconnect"}] * 10])

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        raise AssertionError(message)

    async def waiting(scope: Any, receive: Any, send: Any) -> None:
        """Serve's proxy, which ends without an answer when the client leaves."""
        while (await receive())["type"] != "http.disconnect":
            pass

    metrics, log = Counted(), RequestLog(str(tmp_path / "log"))
    asked = {**SCOPE, **scope, "headers": [HOST, (b"x-api-key", KEY.encode())]}
    asyncio.run(ProxyMiddleware(waiting, KEYS, metrics=metrics, log=log)(asked, receive, send))
    log.close()
    (written,) = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    line = json.loads(written)
    fields = [line[name] for name in ("route", "status", "key", "reason", "decision")]
    assert fields == ["/v1/screen", 499, "ward", None, None]
    assert "total" in line["milliseconds"]
    assert "Doe" not in written
    assert metrics.requests == [("/v1/screen", 499, "ward")]


def test_liveness_needs_no_replica_and_readiness_does() -> None:
    serve = FakeServe(deaths=100)
    middleware = ProxyMiddleware(serve)
    assert ask(middleware, "GET", "/healthz").json() == {"status": "alive"}
    assert ask(middleware, "HEAD", "/healthz").status_code == 200
    assert not serve.scopes
    assert ask(middleware, "GET", "/readyz").status_code == 503
    assert reason(ask(middleware, "POST", "/healthz", content=b"x")) == "unavailable", "it is for the replica to refuse"


def test_paths_of_serve_itself_are_forwarded_unchanged() -> None:
    """KubeRay asks for the health of a proxy from another machine; the names of all applications are not for it."""
    serve = FakeServe(headers=PLAIN)
    for keys in (None, KEYS):
        for path in ("/-/healthz", "/-/routes"):
            assert ask(ProxyMiddleware(serve, keys), "GET", path).status_code == 200
        assert ask(ProxyMiddleware(serve, keys), "GET", "/-/healthz", client="192.0.2.7").status_code == 200
    assert reason(ask(ProxyMiddleware(serve), "GET", "/-/routes", headers={"host": "evil.example"})) == "wrong-host"
    assert reason(ask(ProxyMiddleware(serve), "GET", "/-/routes", client="192.0.2.7")) == "not-loopback"


@pytest.mark.parametrize("path", ["/v1/screen", "/", "/nothing"])
def test_websockets_are_closed_and_counted(path: str) -> None:
    cluster, metrics = Cluster(), Counted()
    assert websocket(ProxyMiddleware(cluster, metrics=metrics), path) == CLOSED
    assert (metrics.requests, cluster.ours.scopes) == ([(path if path != "/nothing" else "other", 403, None)], [])


def test_websockets_of_another_application_are_forwarded() -> None:
    assert websocket(ProxyMiddleware(Cluster()), "/theirs")[0]["status"] == 200, "FakeServe knows no other answer"


def test_middlewares_use_the_keys_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXR_API_KEYS", KEY)
    (made,) = middlewares()
    middleware = made.cls(FakeServe(), *made.args, **made.kwargs)
    assert ask(middleware, "POST", "/v1/screen", content=b"x").status_code == 401


def test_middlewares_follow_the_key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "keys"
    file.write_text(KEY, encoding="utf-8")
    monkeypatch.setattr(api_keys, "CHECK_SECONDS", 0.0)
    monkeypatch.setenv("CXR_API_KEYS_FILE", str(file))
    (made,) = middlewares()
    middleware = made.cls(FakeServe(), *made.args, **made.kwargs)
    assert ask(middleware, "POST", "/v1/screen", content=b"x", headers={"x-api-key": KEY}).status_code == 200
    file.write_text(KEY[::-1], encoding="utf-8")
    assert ask(middleware, "POST", "/v1/screen", content=b"x", headers={"x-api-key": KEY}).status_code == 401
    assert ask(middleware, "POST", "/v1/screen", content=b"x", headers={"x-api-key": KEY[::-1]}).status_code == 200


def test_requests_of_another_application_are_forwarded_unchanged() -> None:
    """No key, no limit, another machine, unknown headers, its own errors."""
    cluster, metrics = Cluster(), Counted()
    middleware = ProxyMiddleware(cluster, keys=parse_keys([KEY], ""), limits=Limits(body_bytes=10), metrics=metrics)
    body = bytes(1000)
    answer = ask(middleware, "POST", "/theirs/upload", client="192.0.2.7", content=body, headers={"x-their-own": "1"})
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, body, "text/plain")
    assert (b"x-their-own", b"1") in cluster.theirs.scopes[0]["headers"]
    cluster.theirs.status = 422
    answer = ask(middleware, "POST", "/theirs", content=b"wrong")
    assert (answer.status_code, answer.content) == (422, b"wrong")
    assert (metrics.requests, metrics.states, cluster.ours.scopes) == ([], [], [])


@pytest.mark.parametrize("path", ["/nothing", "/theirsuffix", "/v1/nothing"])
def test_an_unknown_path_is_treated_as_our_own(path: str) -> None:
    cluster = Cluster()
    middleware = ProxyMiddleware(cluster, limits=Limits(body_bytes=10))
    assert reason(ask(middleware, "POST", path, content=bytes(11))) == "too-large"
    assert reason(ask(middleware, "POST", path, client="192.0.2.7", content=b"x")) == "not-loopback"
    assert (cluster.ours.scopes, cluster.theirs.scopes) == ([], [])
    cluster.ours.headers = PLAIN
    answer = ask(middleware, "GET", path)
    assert (answer.status_code, reason(answer)) == (404, "not-found")


def test_own_paths_need_no_route_table(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(table=b'{"/": "cxr", "/v1": "another"}')
    clock, middleware = stopped_clock(monkeypatch, routes), ProxyMiddleware(cluster)
    for path in ("/v1/screen", "/", "/samples/normal.png", "/problems/busy", "/page/app.js"):
        ask(middleware, "POST" if path == "/v1/screen" else "GET", path)
    assert (cluster.tables, len(cluster.ours.scopes)) == (0, 5)
    for _ in range(3):
        ask(middleware, "GET", "/nothing")
    assert cluster.tables == 1
    clock.turn(routes.REFRESH_SECONDS)
    ask(middleware, "GET", "/nothing")
    assert cluster.tables == 2


def test_without_a_route_table_the_last_one_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "REFRESH_SECONDS", 0.0)
    cluster = Cluster(table=b"This node is being drained.")
    middleware = ProxyMiddleware(cluster, limits=Limits(body_bytes=1))
    assert reason(ask(middleware, "POST", "/theirs", content=b"xx")) == "too-large"
    cluster.table = b'{"/": "cxr", "/theirs": "another"}'
    assert ask(middleware, "POST", "/theirs", content=b"xx").status_code == 200
    cluster.table = b"[]"
    assert ask(middleware, "POST", "/theirs", content=b"xx").status_code == 200


def test_requests_that_are_not_answered_are_counted_by_state() -> None:
    metrics = Counted()
    seen = metrics.states

    class Serve(FakeServe):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            seen.append(guard.requests())
            await super().__call__(scope, receive, send)

    async def upload() -> AsyncIterator[bytes]:
        yield b"a "
        seen.append(guard.requests())
        yield b"body"

    guard = ProxyMiddleware(Serve(), metrics=metrics)
    ask(guard, "POST", "/v1/screen", content=upload())
    ask(guard, "GET", "/-/healthz")
    opened = {"upload": 0, "waiting": 0, "forwarded": 1}
    assert seen[:3] == [opened, {"upload": 1, "waiting": 0, "forwarded": 0}, opened]
    assert guard.requests() == {"upload": 0, "waiting": 0, "forwarded": 0}
    assert metrics.requests == [("/v1/screen", 200, None)]

"""Before applications that behave as Serve's proxy does."""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from cxr_platform.serving import keys as keys_module
from cxr_platform.serving import other_apps
from cxr_platform.serving import proxy_middleware as front_module
from cxr_platform.serving.keys import Keys
from cxr_platform.serving.proxy_middleware import ATTEMPTS, Front, middlewares
from cxr_platform.serving.upload import Limits
from tests.serving.asking import ask, pieces, reason
from tests.serving.clock import Clock

KEY = "a key of many characters"
OURS = [(b"X-Content-Type-Options", b"nosniff"), (b"X-Request-ID", b"1"), (b"x-request-id", b"1")]
PLAIN = [(b"content-type", b"text/plain")]
SCOPE = {"type": "http", "method": "POST", "path": "/v1/screen", "headers": [], "client": ("127.0.0.1", 50000)}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(front_module, "time", made)
    return made


async def read_all(receive: Callable[[], Awaitable[Any]]) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    return body


class Behind:
    """An application that dies `deaths` times, then answers `status` with the body it got."""

    def __init__(self, deaths: int = 0, status: int = 200, headers: Any = OURS, late: bool = False) -> None:
        self.deaths, self.status, self.headers, self.late = deaths, status, headers, late
        self.scopes: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append({**scope, "headers": list(scope["headers"])})
        scope["headers"].clear()
        body = await read_all(receive)
        start = {"type": "http.response.start", "status": self.status, "headers": self.headers}
        if len(self.scopes) <= self.deaths:
            if self.late:
                await send(start)
            return
        await send(start)
        await send({"type": "http.response.body", "body": body[:3], "more_body": True})
        await send({"type": "http.response.body", "body": body[3:]})


class Cluster:
    """Serve's proxy with its route table, our application at "/" and another one below /theirs."""

    def __init__(self, table: bytes = b'{"/": "cxr", "/theirs": "another"}') -> None:
        self.ours, self.theirs = Behind(status=404), Behind(headers=PLAIN)
        self.table = table
        self.tables = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/-/routes":
            self.tables += 1
            await send({"type": "http.response.start", "status": 200, "headers": PLAIN})
            await send({"type": "http.response.body", "body": self.table})
        elif scope["path"] == "/theirs" or scope["path"].startswith("/theirs/"):
            await self.theirs(scope, receive, send)
        else:
            await self.ours(scope, receive, send)


def test_a_request_and_its_answer_pass() -> None:
    behind = Behind()
    answer = ask(Front(behind), "POST", "/v1/screen?explain=true", content=b"a body")
    assert (answer.status_code, answer.content) == (200, b"a body")
    assert answer.headers.get_list("x-request-id") == ["1"]
    (scope,) = behind.scopes
    assert (scope["method"], scope["path"], scope["query_string"]) == ("POST", "/v1/screen", b"explain=true")


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("deaths", range(1, ATTEMPTS))
def test_a_request_over_which_a_replica_dies_is_asked_again_whole(deaths: int, late: bool) -> None:
    behind = Behind(deaths=deaths, late=late)
    answer = ask(Front(behind), "POST", "/v1/screen", content=b"a body")
    assert (answer.status_code, answer.content) == (200, b"a body")
    assert len(behind.scopes) == deaths + 1
    assert behind.scopes[0] == behind.scopes[-1]


def test_a_request_that_kills_every_replica_is_given_up() -> None:
    behind = Behind(deaths=100)
    answer = ask(Front(behind), "POST", "/v1/screen", content=b"a body")
    assert (answer.status_code, reason(answer)) == (503, "unavailable")
    assert answer.headers["retry-after"]
    assert len(behind.scopes) == 2


@pytest.mark.parametrize(
    ("status", "expected", "answered"),
    [(429, "busy", 429), (503, "unavailable", 503), (408, "unavailable", 503), (404, "no-such-page", 404)],
)
def test_what_the_proxy_says_becomes_problem_details(status: int, expected: str, answered: int) -> None:
    answer = ask(Front(Behind(status=status, headers=PLAIN)), "POST", "/v1/screen", content=b"secret")
    assert (answer.status_code, reason(answer)) == (answered, expected)
    assert "secret" not in answer.text


def test_problems_of_the_application_pass_as_they_are() -> None:
    answer = ask(Front(Behind(status=422)), "POST", "/v1/screen", content=b"a body")
    assert (answer.status_code, answer.content) == (422, b"a body")


def test_headers_that_steer_serve_do_not_pass() -> None:
    behind = Behind()
    steering = {
        "serve_multiplexed_model_id": "x",
        "x-request-id": "Doe",
        "x-request-timeout-seconds": "1",
        "cookie": "c",
    }
    ask(Front(behind), "GET", "/v1/model", headers={**steering, "authorization": "Bearer x"})
    passed = dict(behind.scopes[0]["headers"])
    assert {*passed} <= {b"accept", b"authorization", b"host", b"x-request-id"}
    assert passed[b"authorization"] == b"Bearer x"
    assert len(passed[b"x-request-id"]) == 32


def test_a_body_is_never_handed_on_before_it_is_whole() -> None:
    behind = Behind()
    front = Front(behind, limits=Limits(body_bytes=1000, upload_seconds=0.2))
    slow = ask(front, "POST", "/v1/screen", content=pieces([b"x"] * 100, pause=0.05))
    assert (slow.status_code, reason(slow)) == (408, "slow-upload")
    large = ask(front, "POST", "/v1/screen", content=pieces([bytes(600)] * 2))
    assert (large.status_code, reason(large)) == (413, "too-large")
    assert behind.scopes == []
    assert ask(front, "POST", "/v1/screen", content=b"fits").status_code == 200


def test_strangers_are_refused_before_their_body_is_read() -> None:
    behind = Behind()
    front = Front(behind, keys=Keys((hashlib.sha256(KEY.encode()).digest(),)))
    read = []

    def body() -> Any:
        read.append(1)
        yield b"x"

    answer = ask(front, "POST", "/v1/screen", content=pieces(body()))
    assert (answer.status_code, reason(answer)) == (401, "no-key")
    assert not read
    assert ask(front, "POST", "/v1/screen", content=b"x", headers={"x-api-key": KEY}).status_code == 200


def test_without_keys_other_machines_are_refused_before_their_body_is_read() -> None:
    behind = Behind()
    read = []

    def body() -> Any:
        read.append(1)
        yield b"x"

    for client in ("203.0.113.7", "10.0.0.1", "unix"):
        answer = ask(Front(behind), "POST", "/v1/screen", client=client, content=pieces(body()))
        assert (answer.status_code, reason(answer)) == (403, "not-loopback")
        assert reason(ask(Front(behind), "GET", "/v1/model", client=client)) == "not-loopback"
    assert (read, behind.scopes) == ([], [])


def test_what_it_answers_itself_is_counted_once_and_nothing_else() -> None:
    counted: list[tuple[str, int]] = []

    def front(behind: Behind, **options: Any) -> Front:
        return Front(behind, count=lambda *answer: counted.append(answer), **options)

    ask(front(Behind()), "POST", "/v1/screen", content=b"answered by a replica")
    ask(front(Behind(status=422)), "POST", "/v1/screen", content=b"refused by a replica")
    ask(front(Behind(deaths=1)), "POST", "/v1/screen", content=b"answered by another replica")
    assert counted == []
    ask(front(Behind(status=429, headers=PLAIN)), "POST", "/v1/screen", content=b"x")
    ask(front(Behind(deaths=100)), "POST", "/v1/screen/batch", content=b"x")
    ask(front(Behind(), limits=Limits(body_bytes=1)), "POST", "/Doe/Jane", content=b"xx")
    ask(front(Behind(), keys=Keys(())), "POST", "/v1/screen", content=b"x")
    ask(front(Behind()), "GET", "/healthz")
    refused = [("/v1/screen", 429), ("/v1/screen/batch", 503), ("other", 413), ("/v1/screen", 401)]
    assert counted == [*refused, ("/healthz", 200)]


def test_bodies_have_room_and_give_it_back(clock: Clock) -> None:
    front = Front(Behind(), held_bytes=1000)
    assert reason(ask(front, "POST", "/v1/screen", content=bytes(1001))) == "busy"
    clock.turn(2)
    for _ in range(3):
        assert ask(front, "POST", "/v1/screen", content=bytes(900)).status_code == 200


def test_two_large_bodies_at_once_have_to_share() -> None:
    async def both() -> list[int]:
        front = Front(Behind(), held_bytes=1000)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(front), base_url="http://server") as asking:
            slow = pieces([bytes(300), bytes(300)], pause=0.1)
            first = asyncio.create_task(asking.post("/v1/screen", content=slow))
            await asyncio.sleep(0.15)
            second = await asking.post("/v1/screen", content=bytes(800))
            return [(await first).status_code, second.status_code]

    assert asyncio.run(both()) == [200, 429]


def test_where_the_queue_is_full_bodies_are_not_read_for_a_second(clock: Clock) -> None:
    behind = Behind(status=429, headers=PLAIN)
    front, read = Front(behind), []

    def body() -> Any:
        read.append(1)
        yield b"x"

    assert reason(ask(front, "POST", "/v1/screen", content=b"x")) == "busy"
    refused = ask(front, "POST", "/v1/screen", content=pieces(body()))
    assert (reason(refused), refused.headers["retry-after"]) == ("busy", "1")
    assert (len(behind.scopes), read) == (1, [])
    assert ask(front, "GET", "/readyz").status_code == 429
    clock.turn(2)
    behind.status, behind.headers = 200, OURS
    for _ in range(2):
        assert ask(front, "POST", "/v1/screen", content=b"x").status_code == 200


def test_a_client_that_leaves_costs_nothing() -> None:
    async def leaving() -> None:
        front = Front(Behind())

        async def receive() -> dict[str, str]:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            raise AssertionError(message)

        await front(SCOPE, receive, send)

    asyncio.run(leaving())


def test_a_client_that_leaves_while_it_waits_is_no_dead_replica() -> None:
    """Serve's proxy then ends without a word, as it does where a replica dies."""
    asked, counted = [], []

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        asked.append(await receive())
        assert await receive() == {"type": "http.disconnect"}

    async def leaving() -> None:
        messages = [{"type": "http.request", "body": b"a body", "more_body": False}]

        async def receive() -> Any:
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            raise AssertionError(message)

        await Front(behind, count=lambda *answer: counted.append(answer))(SCOPE, receive, send)

    asyncio.run(leaving())
    assert (len(asked), counted) == (1, [])


def test_the_proxy_is_alive_by_itself_and_ready_with_its_replicas() -> None:
    began = time.monotonic()
    front = Front(Behind(deaths=100))
    assert ask(front, "GET", "/healthz").json() == {"status": "alive"}
    assert ask(front, "GET", "/readyz").status_code == 503
    assert time.monotonic() - began < 5


def test_serves_own_addresses_are_left_alone() -> None:
    behind = Behind(headers=PLAIN)
    assert ask(Front(behind), "GET", "/-/healthz").status_code == 200


def test_proxies_find_it_and_the_keys_of_their_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXR_API_KEYS", KEY)
    (middleware,) = middlewares()
    front = middleware.cls(Behind(), *middleware.args, **middleware.kwargs)
    assert ask(front, "POST", "/v1/screen", content=b"x").status_code == 401


def test_proxies_follow_the_file_of_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "keys"
    file.write_text(KEY, encoding="utf-8")
    monkeypatch.setattr(keys_module, "LOOK_SECONDS", 0.0)
    monkeypatch.setenv("CXR_API_KEYS_FILE", str(file))
    (middleware,) = middlewares()
    front = middleware.cls(Behind(), *middleware.args, **middleware.kwargs)
    assert ask(front, "POST", "/v1/screen", content=b"x", headers={"x-api-key": KEY}).status_code == 200
    file.write_text(KEY[::-1], encoding="utf-8")
    assert ask(front, "POST", "/v1/screen", content=b"x", headers={"x-api-key": KEY}).status_code == 401
    assert ask(front, "POST", "/v1/screen", content=b"x", headers={"x-api-key": KEY[::-1]}).status_code == 200


def test_requests_of_another_application_are_left_alone() -> None:
    """No key, no limit, from another machine, with a header of its own; its errors are in its own words."""
    cluster, counted = Cluster(), list[tuple[str, int]]()
    front = Front(
        cluster,
        keys=Keys((hashlib.sha256(KEY.encode()).digest(),)),
        limits=Limits(body_bytes=10),
        count=lambda *answer: counted.append(answer),
    )
    body = bytes(1000)
    answer = ask(front, "POST", "/theirs/upload", client="192.0.2.7", content=body, headers={"x-their-own": "1"})
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, body, "text/plain")
    assert (b"x-their-own", b"1") in cluster.theirs.scopes[0]["headers"]
    cluster.theirs.status = 422
    answer = ask(front, "POST", "/theirs", content=b"wrong")
    assert (answer.status_code, answer.content) == (422, b"wrong")
    assert (counted, cluster.ours.scopes) == ([], [])


@pytest.mark.parametrize("path", ["/nothing", "/theirsuffix", "/v1/nothing"])
def test_an_address_of_nobody_is_guarded_as_ours(path: str) -> None:
    cluster = Cluster()
    front = Front(cluster, limits=Limits(body_bytes=10))
    assert reason(ask(front, "POST", path, content=bytes(11))) == "too-large"
    assert reason(ask(front, "POST", path, client="192.0.2.7", content=b"x")) == "not-loopback"
    assert (cluster.ours.scopes, cluster.theirs.scopes) == ([], [])
    cluster.ours.headers = PLAIN
    answer = ask(front, "GET", path)
    assert (answer.status_code, reason(answer)) == (404, "no-such-page")


def test_our_own_addresses_need_no_route_table(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(table=b'{"/": "cxr", "/v1": "another"}')
    front = Front(cluster)
    for path in ("/v1/screen", "/", "/samples/normal.png", "/problems/busy", "/page/app.js"):
        ask(front, "POST" if path == "/v1/screen" else "GET", path)
    assert (cluster.tables, len(cluster.ours.scopes)) == (0, 5)
    for _ in range(3):
        ask(front, "GET", "/nothing")
    assert cluster.tables == 1
    monkeypatch.setattr(other_apps, "FRESH_SECONDS", 0.0)
    ask(front, "GET", "/nothing")
    assert cluster.tables == 2


def test_while_the_proxy_has_no_route_table_what_was_known_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(other_apps, "FRESH_SECONDS", 0.0)
    cluster = Cluster(table=b"This node is being drained.")
    front = Front(cluster, limits=Limits(body_bytes=1))
    assert reason(ask(front, "POST", "/theirs", content=b"xx")) == "too-large"
    cluster.table = b'{"/": "cxr", "/theirs": "another"}'
    assert ask(front, "POST", "/theirs", content=b"xx").status_code == 200
    cluster.table = b"[]"
    assert ask(front, "POST", "/theirs", content=b"xx").status_code == 200


def test_a_good_answer_of_an_application_in_our_place_passes_as_it_is() -> None:
    answer = ask(Front(Behind(headers=PLAIN)), "POST", "/predict", content=b"a body")
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, b"a body", "text/plain")

"""Many clients at a time in front of `FakeServe`, which answers batches like Serve's proxy with replicas."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx
import pytest

from cxr_platform.serving import batch_protocol, request_batcher
from cxr_platform.serving.batch_protocol import BatchSplitter
from cxr_platform.serving.proxy_middleware import ProxyMiddleware
from cxr_platform.serving.request_batcher import CALLS_PER_REPLICA as CALLS
from cxr_platform.serving.request_batcher import MAX_BATCH_REQUESTS as MAX_REQUESTS
from cxr_platform.serving.request_batcher import WAITING_PER_REPLICA as WAITING
from cxr_platform.serving.request_batcher import is_batchable

DEADLY = b"deadly"


@pytest.fixture(autouse=True)
def no_call_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine takes longer to begin all requests of a test."""
    monkeypatch.setattr(request_batcher, "SLOW_CALL_SECONDS", 60.0)


class FakeServe:
    """Answers with the received body once `opened` is set. A call with a `DEADLY` body crashes its replica.

    `calls` holds the bodies of each call; `status` is an error of Serve itself for batches.
    """

    def __init__(self, status: int | None = None) -> None:
        self.calls: list[list[bytes]] = []
        self.opened = asyncio.Event()
        self.left = 0
        self.status = status
        self._splitter = BatchSplitter(self.replica)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        first = b"" if batch_protocol.KEY in scope else (await receive())["body"]
        bodies = [body for _, body in scope[batch_protocol.KEY]] if batch_protocol.KEY in scope else [first]
        self.calls.append(bodies)
        leaving = asyncio.ensure_future(receive())
        opened = asyncio.ensure_future(self.opened.wait())
        await asyncio.wait({leaving, opened}, return_when=asyncio.FIRST_COMPLETED)
        left = leaving.done() and not opened.done()
        leaving.cancel()
        opened.cancel()
        if left:
            self.left += 1
        elif len(bodies) > 1 and self.status is not None:
            await send({"type": "http.response.start", "status": self.status, "headers": []})
            await send({"type": "http.response.body", "body": b"of Serve"})
        elif DEADLY not in bodies:
            await self.splitter(scope, once(first), send)

    def splitter(self, *call: Any) -> Any:
        return self._splitter(*call)

    @staticmethod
    async def replica(_: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-content-type-options", b"nosniff")]})
        await send({"type": "http.response.body", "body": body})


def once(body: bytes) -> Callable[[], Awaitable[Any]]:
    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


async def settle() -> None:
    """Run everything that is ready."""
    for _ in range(50):
        await asyncio.sleep(0)


class Clients:
    """HTTP clients of a `ProxyMiddleware` in front of `serve`."""

    def __init__(self, serve: FakeServe) -> None:
        self.serve = serve
        self._http = httpx.AsyncClient(
            transport=httpx.ASGITransport(ProxyMiddleware(serve)), base_url="http://localhost"
        )

    async def begin(self, bodies: Sequence[bytes], path: str = "/v1/screen") -> "list[asyncio.Task[httpx.Response]]":
        requests = []
        for body in bodies:
            requests.append(asyncio.ensure_future(self._http.post(path, content=body)))
            await settle()
        return requests

    async def answers(self, bodies: Sequence[bytes]) -> list[httpx.Response]:
        requests = await self.begin(bodies)
        self.serve.opened.set()
        return await asyncio.gather(*requests)


def numbered(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def sizes(serve: FakeServe) -> list[int]:
    return [len(bodies) for bodies in serve.calls]


def test_free_calls_are_used_at_once_and_further_requests_go_together() -> None:
    async def run() -> None:
        serve = FakeServe()
        clients = Clients(serve)
        requests = await clients.begin(numbered(CALLS + 3))
        assert serve.calls == [[b"%d" % number] for number in range(CALLS)]
        serve.opened.set()
        answers = await asyncio.gather(*requests)
        assert [(answer.status_code, answer.content) for answer in answers] == [(200, n) for n in numbered(CALLS + 3)]
        assert serve.calls[CALLS:] == [numbered(CALLS + 3)[CALLS:]]

    asyncio.run(run())


def test_a_batch_is_limited_in_requests_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(bodies: Sequence[bytes]) -> list[int]:
        serve = FakeServe()
        assert {answer.status_code for answer in await Clients(serve).answers(bodies)} == {200}
        return sizes(serve)

    batches = asyncio.run(run(numbered(CALLS + 3 * MAX_REQUESTS)))
    assert max(batches) == MAX_REQUESTS
    assert sum(batches) == CALLS + 3 * MAX_REQUESTS
    monkeypatch.setattr(request_batcher, "MAX_BATCH_BYTES", 100)
    assert sorted(asyncio.run(run([*numbered(CALLS), bytes(60), bytes(50), bytes(50)]))) == [
        *[1] * CALLS,
        1,
        2,
    ]


def test_after_a_crash_each_request_of_the_batch_is_sent_alone() -> None:
    async def run() -> None:
        serve = FakeServe()
        bodies = [*numbered(CALLS), b"a", DEADLY, b"b"]
        answers = await Clients(serve).answers(bodies)
        assert [answer.status_code for answer in answers] == [*[200] * CALLS, 200, 503, 200]
        assert serve.calls[CALLS:] == [[b"a", DEADLY, b"b"], [b"a"], [DEADLY], [b"b"]]

    asyncio.run(run())


def test_requests_answered_before_a_crash_are_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_protocol, "FLUSH_SECONDS", 0.01)

    class Dying(FakeServe):
        """A replica that crashes with the body `late` once it has sent the other answers of its batch."""

        def __init__(self) -> None:
            super().__init__()
            self.sent = 0
            self.others_sent = asyncio.Event()

        async def crashing(self, scope: Any, receive: Any, send: Any) -> None:
            body = (await receive())["body"]
            if body == b"late":
                await self.others_sent.wait()
                raise RuntimeError
            await FakeServe.replica(scope, once(body), send)

        def splitter(self, scope: Any, receive: Any, send: Any) -> Any:
            async def counted(message: Any) -> None:
                await send(message)
                self.sent += message.get("body", b"").count(b"nosniff")
                if self.sent == 2:
                    self.others_sent.set()

            if len(self.calls[-1]) == 1:
                return BatchSplitter(FakeServe.replica)(scope, receive, send)
            return BatchSplitter(self.crashing)(scope, receive, counted)

    async def run() -> None:
        serve = Dying()
        answers = await Clients(serve).answers([*numbered(CALLS), b"a", b"late", b"c"])
        assert [(answer.status_code, answer.content) for answer in answers[CALLS:]] == [
            (200, body) for body in (b"a", b"late", b"c")
        ]
        assert serve.calls[CALLS:] == [[b"a", b"late", b"c"], [b"late"]]

    asyncio.run(run())


@pytest.mark.parametrize(("status", "reason"), [(429, "busy"), (503, "unavailable"), (408, "unavailable")])
def test_an_error_of_serve_for_a_batch_goes_to_each_request(status: int, reason: str) -> None:
    async def run() -> None:
        serve = FakeServe(status)
        answers = await Clients(serve).answers(numbered(CALLS + 2))
        assert [answer.json()["reason"] for answer in answers[CALLS:]] == [reason, reason]
        assert "of Serve" not in answers[-1].text
        assert len(serve.calls) == CALLS + 1

    asyncio.run(run())


def test_requests_beyond_the_queue_get_429() -> None:
    async def run() -> None:
        serve = FakeServe()
        clients = Clients(serve)
        requests = await clients.begin(numbered(CALLS + WAITING))
        (refused,) = await clients.begin([b"one too many"])
        assert (await refused).json()["reason"] == "busy"
        serve.opened.set()
        assert {answer.status_code for answer in await asyncio.gather(*requests)} == {200}

    asyncio.run(run())


def test_each_known_replica_gets_its_own_calls() -> None:
    class Two(FakeServe):
        """Two replicas: below, one answers the first calls and the other one the call after them."""

        replicas = (BatchSplitter(FakeServe.replica), BatchSplitter(FakeServe.replica))

        def splitter(self, *call: Any) -> Any:
            return self.replicas[len(self.calls) % 2](*call)

    async def run() -> None:
        serve = Two()
        clients = Clients(serve)
        await clients.answers(numbered(CALLS + 2))
        assert sizes(serve) == [*[1] * CALLS, 2]
        serve.opened.clear()
        requests = await clients.begin(numbered(3 * CALLS))
        assert sizes(serve)[CALLS + 1 :] == [1] * 2 * CALLS
        serve.opened.set()
        await asyncio.gather(*requests)

    asyncio.run(run())


def test_a_slow_call_releases_its_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        monkeypatch.setattr(request_batcher, "SLOW_CALL_SECONDS", 0.05)
        serve = FakeServe()
        clients = Clients(serve)
        slow = await clients.begin(numbered(CALLS + 1))
        while len(serve.calls) <= CALLS:
            await asyncio.sleep(0.01)
        serve.opened.set()
        await asyncio.gather(*slow)

    asyncio.run(asyncio.wait_for(run(), 60))


def test_a_waiting_request_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        serve = FakeServe()
        clients = Clients(serve)
        running = await clients.begin(numbered(CALLS))
        monkeypatch.setattr(request_batcher, "TIMEOUT_SECONDS", 0.05)
        (waiting,) = await clients.begin([b"late"])
        late = await waiting
        assert (late.status_code, late.json()["reason"]) == (503, "unavailable")
        serve.opened.set()
        await asyncio.gather(*running)
        assert serve.calls == [[body] for body in numbered(CALLS)]

    asyncio.run(run())


class Client:
    """A client that disconnects on `left`; nothing may be sent to it then."""

    def __init__(self, middleware: ProxyMiddleware) -> None:
        self.left = asyncio.Event()
        scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/v1/screen", "client": ("127.0.0.1", 1)}
        scope["headers"] = [(b"host", b"localhost")]
        self.clients = asyncio.ensure_future(middleware(scope, self._receive, self._send))
        self._body = [{"type": "http.request", "body": b"abandoned", "more_body": False}]

    async def _receive(self) -> Any:
        if self._body:
            return self._body.pop()
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        raise AssertionError(message)


def test_a_request_of_a_disconnected_client_is_not_sent() -> None:
    async def run() -> None:
        serve = FakeServe()
        middleware = ProxyMiddleware(serve)
        clients = [Client(middleware) for _ in range(CALLS + 3)]
        await settle()
        for client in clients[CALLS:]:
            client.left.set()
            await client.clients
        for client in clients[:CALLS]:
            client.left.set()
            await client.clients
        await settle()
        assert (sizes(serve), serve.left) == ([1] * CALLS, CALLS)

    asyncio.run(run())


def test_a_batch_is_abandoned_once_all_its_clients_have_disconnected() -> None:
    async def run() -> None:
        serve = FakeServe()
        middleware = ProxyMiddleware(serve)
        clients = [Client(middleware) for _ in range(CALLS + 2)]
        await settle()
        for client in clients[:CALLS]:
            client.left.set()
            await client.clients
        await settle()
        assert (sizes(serve), serve.left) == ([1] * CALLS + [2], CALLS)
        clients[-1].left.set()
        await settle()
        assert serve.left == CALLS
        clients[-2].left.set()
        await settle()
        assert serve.left == CALLS + 1

    asyncio.run(run())


def test_heatmaps_batches_dicom_and_large_images_are_sent_alone() -> None:
    scope = {"method": "POST", "path": "/v1/screen", "query_string": b""}
    assert is_batchable(scope, b"image")
    assert not is_batchable({**scope, "query_string": b"explain=true"}, b"image")
    assert not is_batchable({**scope, "path": "/v1/screen/batch"}, b"image")
    assert not is_batchable({**scope, "method": "PUT"}, b"image")
    assert not is_batchable(scope, bytes(2 * 2**20))
    assert not is_batchable(scope, bytes(128) + b"DICM" + bytes(100))

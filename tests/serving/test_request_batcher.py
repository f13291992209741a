"""Many clients at a time before `Serve`, which answers packs as Serve's proxy and a replica behind it do."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx
import pytest

from cxr_platform.serving import batch_protocol, request_batcher
from cxr_platform.serving.batch_protocol import Unpacking
from cxr_platform.serving.proxy_middleware import Front
from cxr_platform.serving.request_batcher import CALLS, PACK_ITEMS, WAITING, may_be_packed

DEADLY = b"deadly"


class Serve:
    """Answers with the body it got once `opened`. A replica dies over a call with a `DEADLY` body in it.

    `calls` are the bodies of each call; `says` is a status of Serve's own for packs.
    """

    def __init__(self, says: int | None = None) -> None:
        self.calls: list[list[bytes]] = []
        self.opened = asyncio.Event()
        self.left = 0
        self.says = says
        self._unpacking = Unpacking(self.replica)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        first = (await receive())["body"]
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
        elif len(bodies) > 1 and self.says is not None:
            await send({"type": "http.response.start", "status": self.says, "headers": []})
            await send({"type": "http.response.body", "body": b"of Serve"})
        elif DEADLY not in bodies:
            await self.unpacking(scope, once(first), send)

    def unpacking(self, *call: Any) -> Any:
        return self._unpacking(*call)

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
    """Let everything happen that needs no time."""
    for _ in range(50):
        await asyncio.sleep(0)


class Asking:
    """Clients of a `Front` before `serve`."""

    def __init__(self, serve: Serve) -> None:
        self.serve = serve
        self._http = httpx.AsyncClient(transport=httpx.ASGITransport(Front(serve)), base_url="http://server")

    async def begin(self, bodies: Sequence[bytes], path: str = "/v1/screen") -> "list[asyncio.Task[httpx.Response]]":
        asked = []
        for body in bodies:
            asked.append(asyncio.ensure_future(self._http.post(path, content=body)))
            await settle()
        return asked

    async def answers(self, bodies: Sequence[bytes]) -> list[httpx.Response]:
        asked = await self.begin(bodies)
        self.serve.opened.set()
        return await asyncio.gather(*asked)


def numbered(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def sizes(serve: Serve) -> list[int]:
    return [len(bodies) for bodies in serve.calls]


def test_one_that_finds_nobody_waiting_goes_at_once_and_alone_and_the_others_together() -> None:
    async def run() -> None:
        serve = Serve()
        asking = Asking(serve)
        asked = await asking.begin(numbered(CALLS + 3))
        assert serve.calls == [[b"%d" % number] for number in range(CALLS)]
        serve.opened.set()
        answers = await asyncio.gather(*asked)
        assert [(answer.status_code, answer.content) for answer in answers] == [(200, n) for n in numbered(CALLS + 3)]
        assert serve.calls[CALLS:] == [numbered(CALLS + 3)[CALLS:]]

    asyncio.run(run())


def test_a_pack_has_a_most_of_requests_and_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(bodies: Sequence[bytes]) -> list[int]:
        serve = Serve()
        assert {answer.status_code for answer in await Asking(serve).answers(bodies)} == {200}
        return sizes(serve)

    found = asyncio.run(run(numbered(CALLS + 3 * PACK_ITEMS)))
    assert max(found) == PACK_ITEMS
    assert sum(found) == CALLS + 3 * PACK_ITEMS
    monkeypatch.setattr(request_batcher, "PACK_BYTES", 100)
    assert sorted(asyncio.run(run([*numbered(CALLS), bytes(60), bytes(50), bytes(50)]))) == [*[1] * CALLS, 1, 2]


def test_where_a_replica_dies_over_a_pack_each_is_asked_once_more_alone() -> None:
    async def run() -> None:
        serve = Serve()
        bodies = [*numbered(CALLS), b"a", DEADLY, b"b"]
        answers = await Asking(serve).answers(bodies)
        assert [answer.status_code for answer in answers] == [*[200] * CALLS, 200, 503, 200]
        assert serve.calls[CALLS:] == [[b"a", DEADLY, b"b"], [b"a"], [DEADLY], [b"b"]]

    asyncio.run(run())


def test_who_was_answered_before_a_replica_died_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_protocol, "TOGETHER_SECONDS", 0.01)

    async def replica(scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        if body == b"late":
            await asyncio.sleep(0.1)
            raise RuntimeError
        await Serve.replica(scope, once(body), send)

    class Dying(Serve):
        def unpacking(self, *call: Any) -> Any:
            return Unpacking(replica if len(self.calls[-1]) > 1 else Serve.replica)(*call)

    async def run() -> None:
        serve = Dying()
        answers = await Asking(serve).answers([*numbered(CALLS), b"a", b"late", b"c"])
        assert [(answer.status_code, answer.content) for answer in answers[CALLS:]] == [
            (200, body) for body in (b"a", b"late", b"c")
        ]
        assert serve.calls[CALLS:] == [[b"a", b"late", b"c"], [b"late"]]

    asyncio.run(run())


@pytest.mark.parametrize(("says", "reason"), [(429, "busy"), (503, "unavailable"), (408, "unavailable")])
def test_what_serve_says_to_a_pack_it_says_to_each(says: int, reason: str) -> None:
    async def run() -> None:
        serve = Serve(says)
        answers = await Asking(serve).answers(numbered(CALLS + 2))
        assert [answer.json()["reason"] for answer in answers[CALLS:]] == [reason, reason]
        assert "of Serve" not in answers[-1].text
        assert len(serve.calls) == CALLS + 1

    asyncio.run(run())


def test_more_than_may_wait_are_told_to_come_back() -> None:
    async def run() -> None:
        serve = Serve()
        asking = Asking(serve)
        asked = await asking.begin(numbered(CALLS + WAITING))
        (refused,) = await asking.begin([b"one too many"])
        assert (await refused).json()["reason"] == "busy"
        serve.opened.set()
        assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}

    asyncio.run(run())


def test_each_replica_that_answers_gets_calls_of_its_own() -> None:
    class Two(Serve):
        """Every other call goes to another replica, and every third, below, is a pack."""

        replicas = (Unpacking(Serve.replica), Unpacking(Serve.replica))

        def unpacking(self, *call: Any) -> Any:
            return self.replicas[len(self.calls) % 2](*call)

    async def run() -> None:
        serve = Two()
        asking = Asking(serve)
        for _ in range(2):
            serve.opened.clear()
            await asking.answers(numbered(CALLS + 2))
        assert sizes(serve) == [1, 1, 2, 1, 1, 2]
        serve.opened.clear()
        asked = await asking.begin(numbered(3 * CALLS))
        assert sizes(serve)[6:] == [1] * 2 * CALLS
        serve.opened.set()
        await asyncio.gather(*asked)

    asyncio.run(run())


def test_a_slow_call_makes_way_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        monkeypatch.setattr(request_batcher, "CALL_SECONDS", 0.05)
        serve = Serve()
        asking = Asking(serve)
        slow = await asking.begin(numbered(CALLS + 1))
        while len(serve.calls) <= CALLS:
            await asyncio.sleep(0.01)
        serve.opened.set()
        await asyncio.gather(*slow)

    asyncio.run(asyncio.wait_for(run(), 10))


def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        monkeypatch.setattr(request_batcher, "PATIENCE_SECONDS", 0.05)
        serve = Serve()
        asking = Asking(serve)
        asked = await asking.begin(numbered(CALLS + 1))
        late = await asked[-1]
        assert (late.status_code, late.json()["reason"]) == (503, "unavailable")
        serve.opened.set()
        await asyncio.gather(*asked[:-1])
        assert len(serve.calls) == CALLS

    asyncio.run(run())


class Client:
    """A client that leaves when it wants to; nothing may be sent to it then."""

    def __init__(self, front: Front) -> None:
        self.left = asyncio.Event()
        scope = {"type": "http", "method": "POST", "path": "/v1/screen", "headers": [], "client": ("127.0.0.1", 1)}
        self.asking = asyncio.ensure_future(front(scope, self._receive, self._send))
        self._body = [{"type": "http.request", "body": b"of one who leaves", "more_body": False}]

    async def _receive(self) -> Any:
        if self._body:
            return self._body.pop()
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        raise AssertionError(message)


def test_who_leaves_while_waiting_is_not_asked_for() -> None:
    async def run() -> None:
        serve = Serve()
        front = Front(serve)
        clients = [Client(front) for _ in range(CALLS + 3)]
        await settle()
        for client in clients[CALLS:]:
            client.left.set()
            await client.asking
        for client in clients[:CALLS]:
            client.left.set()
            await client.asking
        assert (sizes(serve), serve.left) == ([1] * CALLS, CALLS)

    asyncio.run(run())


def test_a_pack_is_left_once_all_its_clients_have() -> None:
    async def run() -> None:
        serve = Serve()
        front = Front(serve)
        clients = [Client(front) for _ in range(CALLS + 2)]
        await settle()
        for client in clients[:CALLS]:
            client.left.set()
            await client.asking
        await settle()
        assert (sizes(serve), serve.left) == ([1] * CALLS + [2], CALLS)
        clients[-1].left.set()
        await settle()
        assert serve.left == CALLS
        clients[-2].left.set()
        await settle()
        assert serve.left == CALLS + 1

    asyncio.run(run())


def test_heatmaps_batches_dicom_and_large_images_go_alone() -> None:
    scope = {"method": "POST", "path": "/v1/screen", "query_string": b""}
    assert may_be_packed(scope, b"image")
    assert not may_be_packed({**scope, "query_string": b"explain=true"}, b"image")
    assert not may_be_packed({**scope, "path": "/v1/screen/batch"}, b"image")
    assert not may_be_packed({**scope, "method": "PUT"}, b"image")
    assert not may_be_packed(scope, bytes(2 * 2**20))
    assert not may_be_packed(scope, bytes(128) + b"DICM" + bytes(100))

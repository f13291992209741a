"""What a pack is answered is what each of its requests is answered alone."""

import asyncio
import hashlib
from typing import Any

import httpx
import pytest

from cxr_platform.registry.store import Registry
from cxr_platform.serving import batch_protocol
from cxr_platform.serving.app import build_app
from cxr_platform.serving.batch_protocol import Answer, Frames, Unpacking, frame, packed
from cxr_platform.serving.champion_watcher import Follower
from cxr_platform.serving.keys import Keys
from cxr_platform.serving.screener import Screener
from cxr_platform.serving.service import Service
from tests.serving.asking import MULTIPART, multipart
from tests.serving.builders import image_png

KEY = "a key of many characters"
ANSWERS = [
    Answer(200, [(b"content-type", b"application/json"), (b"etag", b'"a:b"')], b'{"a": 1}\n'),
    Answer(499, [], b""),
    Answer(422, [(b"x", b"")], b"\x00\n:" * 700),
]


def scope_of(*, client: str = "127.0.0.1", path: str = "/v1/screen", **headers: str) -> dict[str, Any]:
    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "http_version": "1.1",
        "headers": given,
        "client": (client, 50000),
    }


async def nothing() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


async def unpacked(app: Any, scope: dict[str, Any]) -> list[list[tuple[int, Answer]]]:
    """What comes back of a pack, message by message."""
    frames, found = Frames(), []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            found.append(list(frames.feed(message["body"])))

    await app(scope, nothing, send)
    return found


@pytest.mark.parametrize("cut", [1, 7, 16, 1000, 10**6])
def test_frames_come_through_however_they_are_cut(cut: int) -> None:
    whole = b"".join(frame(place, answer) for place, answer in enumerate(ANSWERS))
    frames, found = Frames(), []
    for at in range(0, len(whole), cut):
        found += frames.feed(whole[at : at + cut])
    assert found == list(enumerate(ANSWERS))


def test_each_request_is_answered_as_if_it_were_alone(registry: Registry) -> None:
    counted: list[tuple[str, int]] = []
    champion = Follower(registry, lambda folder, bundle: Screener(folder, bundle, threads=1))
    service = Service(champion)
    service.metrics.request = lambda *answer: counted.append(answer)  # type: ignore[method-assign]
    app = build_app(service, Keys((hashlib.sha256(KEY.encode()).digest(),)))
    good = {"x_api_key": KEY, "content_type": MULTIPART["content-type"]}
    requests = [
        (scope_of(**good, x_request_id="a" * 32), multipart([image_png(1)])),
        (scope_of(**good, x_request_id="b" * 32), multipart([b"PK\3\4"])),
        (scope_of(content_type=MULTIPART["content-type"], x_request_id="c" * 32), multipart([image_png(1)])),
        (scope_of(**good, x_request_id="d" * 32), multipart([image_png(2)])),
        (scope_of(**good, x_request_id="e" * 32), b"cut off"),
    ]

    async def alone(scope: dict[str, Any], body: bytes) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server") as asking:
            return await asking.post(scope["path"], headers=scope["headers"], content=body)

    async def both() -> tuple[Any, Any]:
        together = await unpacked(app, packed(requests))
        return together, [await alone(*request) for request in requests]

    together, single = asyncio.run(both())
    answers = dict(item for message in together for item in message)
    assert [answers[place].status for place in range(5)] == [200, 415, 401, 200, 400]
    for place, expected in enumerate(single):
        answer = httpx.Response(
            answers[place].status, headers=list(answers[place].headers), content=answers[place].body
        )
        assert answer.status_code == expected.status_code
        assert without_times(answer.json()) == without_times(expected.json())
        assert answer.json()["request_id"] == "abcde"[place] * 32 == answer.headers["x-request-id"]
        assert {*answer.headers} == {*expected.headers}
    assert sorted(counted[:5]) == sorted(counted[5:])


def without_times(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "timings_ms"}


def test_who_may_ask_is_looked_at_for_each(registry: Registry) -> None:
    """Without keys only loopback may; the pack itself comes from the proxy."""
    champion = Follower(registry, lambda folder, bundle: Screener(folder, bundle, threads=1))
    body = multipart([image_png()])
    requests = [(scope_of(client=client, **content()), body) for client in ("127.0.0.1", "203.0.113.7")]
    (answers,) = asyncio.run(unpacked(build_app(Service(champion), None), packed(requests)))
    assert {place: answer.status for place, answer in answers} == {0: 200, 1: 403}


def content() -> dict[str, str]:
    return {"content_type": MULTIPART["content-type"]}


def test_a_slow_request_keeps_no_other_back() -> None:
    async def run() -> list[list[int]]:
        late = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if (await receive())["body"] == b"slow":
                await late.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        frames, messages = Frames(), []

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                messages.append([place for place, _ in frames.feed(message["body"])])
                late.set()

        requests = [(scope_of(), body) for body in (b"fast", b"slow", b"fast")]
        await Unpacking(app)(packed(requests), nothing, send)
        return messages

    first, second = asyncio.run(run())
    assert (sorted(first), second) == ([0, 2], [1])


def test_where_nobody_wants_a_pack_any_more_its_requests_end() -> None:
    ended = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(1)

    async def run() -> None:
        task = asyncio.ensure_future(unpacked(Unpacking(app), packed([(scope_of(), b"x")] * 3)))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(0)

    asyncio.run(run())
    assert ended == [1, 1, 1]


def test_nothing_that_a_client_sends_is_a_pack(registry: Registry) -> None:
    """What comes over HTTP is path, query, headers and body; a pack is none of them."""
    champion = Follower(registry, lambda folder, bundle: Screener(folder, bundle, threads=1))
    app = build_app(Service(champion), None)
    body = b"".join(frame(place, answer) for place, answer in enumerate(ANSWERS))

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server") as asking:
            headers = {batch_protocol.KEY: "1", batch_protocol.REPLICA.decode(): "1"}
            return await asking.post(f"/v1/screen?{batch_protocol.KEY}=1", headers=headers, content=body)

    answer = asyncio.run(ask())
    assert answer.json()["reason"] == "not-multipart"
    assert batch_protocol.REPLICA.decode() not in answer.headers

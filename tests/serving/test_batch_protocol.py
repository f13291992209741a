"""Each request of a batch gets the answer that it would get alone."""

import asyncio
from typing import Any

import httpx
import pytest

from cxr_platform.registry.store import Registry
from cxr_platform.serving import batch_protocol
from cxr_platform.serving.api_keys import parse_keys
from cxr_platform.serving.app import build_app
from cxr_platform.serving.batch_protocol import AnswerDecoder, BatchSplitter, HttpAnswer, batch_scope, encode_answer
from cxr_platform.serving.champion_watcher import ChampionWatcher
from cxr_platform.serving.screener import Screener
from cxr_platform.serving.service import Service
from tests.serving.asgi_client import MULTIPART, multipart
from tests.serving.builders import image_png

KEY = "a-key-of-many-characters"
ANSWERS = [
    HttpAnswer(200, [(b"content-type", b"application/json"), (b"etag", b'"a:b"')], b'{"a": 1}\n'),
    HttpAnswer(499, [], b""),
    HttpAnswer(422, [(b"x", b"")], b"\x00\n:" * 700),
]


def scope_of(*, client: str = "127.0.0.1", path: str = "/v1/screen", **headers: str) -> dict[str, Any]:
    named = {"host": "localhost", **headers}
    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in named.items()]
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


async def batch_answers(app: Any, scope: dict[str, Any]) -> list[list[tuple[int, HttpAnswer]]]:
    """The answers to a batch, per message."""
    frames, decoded = AnswerDecoder(), []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            decoded.append(list(frames.feed(message["body"])))

    await app(scope, nothing, send)
    return decoded


@pytest.mark.parametrize("cut", [1, 7, 16, 1000, 10**6])
def test_frames_are_decoded_wherever_they_are_cut(cut: int) -> None:
    whole = b"".join(encode_answer(place, answer) for place, answer in enumerate(ANSWERS))
    frames, decoded = AnswerDecoder(), []
    for at in range(0, len(whole), cut):
        decoded += frames.feed(whole[at : at + cut])
    assert decoded == list(enumerate(ANSWERS))


def test_each_request_of_a_batch_is_answered_as_if_it_were_alone(registry: Registry) -> None:
    champion = ChampionWatcher(registry, lambda folder, bundle: Screener(folder, bundle, threads=1))
    app = build_app(Service(champion), parse_keys([KEY], ""))
    good = {"x_api_key": KEY, "content_type": MULTIPART["content-type"]}
    requests = [
        (scope_of(**good, x_request_id="a" * 32), multipart([image_png(1)])),
        (scope_of(**good, x_request_id="b" * 32), multipart([b"PK\3\4"])),
        (scope_of(content_type=MULTIPART["content-type"], x_request_id="c" * 32), multipart([image_png(1)])),
        (scope_of(**good, x_request_id="d" * 32), multipart([image_png(2)])),
        (scope_of(**good, x_request_id="e" * 32), b"cut off"),
    ]

    async def alone(scope: dict[str, Any], body: bytes) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
            return await http.post(scope["path"], headers=scope["headers"], content=body)

    async def both() -> tuple[Any, Any]:
        together = await batch_answers(app, batch_scope(requests))
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


def without_times(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "timings_ms"}


def test_access_is_checked_for_each_request(registry: Registry) -> None:
    """Without keys only loopback is answered; the batch itself comes from the proxy."""
    champion = ChampionWatcher(registry, lambda folder, bundle: Screener(folder, bundle, threads=1))
    body = multipart([image_png()])
    requests = [(scope_of(client=client, **content()), body) for client in ("127.0.0.1", "203.0.113.7")]
    messages = asyncio.run(batch_answers(build_app(Service(champion), None), batch_scope(requests)))
    assert {place: answer.status for message in messages for place, answer in message} == {0: 200, 1: 403}


def content() -> dict[str, str]:
    return {"content_type": MULTIPART["content-type"]}


def test_a_slow_request_delays_no_other() -> None:
    async def run() -> list[list[int]]:
        late = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if (await receive())["body"] == b"slow":
                await late.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        frames, messages = AnswerDecoder(), []

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                messages.append([place for place, _ in frames.feed(message["body"])])
                late.set()

        requests = [(scope_of(), body) for body in (b"fast", b"slow", b"fast")]
        await BatchSplitter(app)(batch_scope(requests), nothing, send)
        return messages

    first, second = asyncio.run(run())
    assert (sorted(first), second) == ([0, 2], [1])


def test_an_abandoned_batch_cancels_its_requests() -> None:
    ended = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(1)

    async def run() -> None:
        task = asyncio.ensure_future(batch_answers(BatchSplitter(app), batch_scope([(scope_of(), b"x")] * 3)))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(0)

    asyncio.run(run())
    assert ended == [1, 1, 1]


def test_a_client_cannot_send_a_batch(registry: Registry) -> None:
    """HTTP sets path, query, headers and body of a scope; a batch is in none of them."""
    champion = ChampionWatcher(registry, lambda folder, bundle: Screener(folder, bundle, threads=1))
    app = build_app(Service(champion), None)
    body = b"".join(encode_answer(place, answer) for place, answer in enumerate(ANSWERS))

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
            headers = {batch_protocol.KEY: "1", batch_protocol.REPLICA_HEADER.decode(): "1"}
            return await http.post(f"/v1/screen?{batch_protocol.KEY}=1", headers=headers, content=body)

    answer = asyncio.run(ask())
    assert answer.json()["reason"] == "not-multipart"
    assert batch_protocol.REPLICA_HEADER.decode() not in answer.headers

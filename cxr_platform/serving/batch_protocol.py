"""How several requests to one path travel in a single call of Serve, and how a replica splits the call again.

Serve needs milliseconds of processor time per call, whatever the call contains. So `request_batcher`, in the proxy,
puts requests that wait at the same time into one call. In the replica each of them passes through the application by
itself, with its own access check, request id, limits, counts and problems.

The requests travel in the ASGI scope, under a key that no server fills from what a client sends, so a batch cannot come
from outside. The answers return in the body as frames, each as soon as it is ready or with those that follow within
`FLUSH_SECONDS`: a slow image delays no other answer for longer.
"""

import asyncio
import struct
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

KEY = "cxr.batch"
REPLICA_HEADER = b"x-cxr-replica"
"""Header of the answer to a batch: a random name of the replica, by which the proxy counts replicas."""

FLUSH_SECONDS = 0.15
REQUEST_FIELDS = ("headers", "client")
"""What differs between the scopes of a batch; path, method and the rest are shared."""

FRAME = struct.Struct(">HHII")
"""Index in the batch, status, length of the headers, length of the body. Both follow; headers as lines `name:value`."""


@dataclass(frozen=True)
class HttpAnswer:
    """The answer to one request of a batch."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes


def batch_scope(requests: Sequence[tuple[Scope, bytes]]) -> dict[str, Any]:
    """Return the scope of a call that carries all `requests` (scope, body); they share the path of the first."""
    first = requests[0][0]
    items = [({name: scope[name] for name in REQUEST_FIELDS}, body) for scope, body in requests]
    return {**first, "headers": list(first["headers"]), KEY: items}


def encode_answer(index: int, answer: HttpAnswer) -> bytes:
    """Return the frame with the answer to the request at `index` of a batch."""
    headers = b"\n".join(name + b":" + value for name, value in answer.headers)
    return FRAME.pack(index, answer.status, len(headers), len(answer.body)) + headers + answer.body


class AnswerDecoder:
    """Reads frames from a stream of bytes that may be cut anywhere."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, piece: bytes) -> Iterator[tuple[int, HttpAnswer]]:
        """Yield index and answer of each frame that `piece` completes."""
        self._buffer += piece
        while len(self._buffer) >= FRAME.size:
            index, status, header_length, body_length = FRAME.unpack_from(self._buffer)
            header_end = FRAME.size + header_length
            end = header_end + body_length
            if len(self._buffer) < end:
                return
            lines = bytes(self._buffer[FRAME.size : header_end]).split(b"\n") if header_length else []
            body = bytes(self._buffer[header_end:end])
            del self._buffer[:end]
            headers = [(name, value) for name, _, value in (line.partition(b":") for line in lines)]
            yield index, HttpAnswer(status, headers, body)


class BatchSplitter:
    """Outermost part of the application of a replica: passes the requests of a batch on one by one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._replica = uuid.uuid4().hex.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI call."""
        if KEY not in scope:
            return await self._app(scope, receive, send)
        shared = {name: value for name, value in scope.items() if name != KEY}
        running = {asyncio.ensure_future(self._framed(shared, i, *item)) for i, item in enumerate(scope[KEY])}
        headers = [(REPLICA_HEADER, self._replica)]
        start: Message | None = {"type": "http.response.start", "status": 200, "headers": headers}
        try:
            while running:
                done, running = await asyncio.wait(running, timeout=FLUSH_SECONDS)
                if not done:
                    continue
                if start is not None:
                    await send(start)
                start, frames = None, b"".join(task.result() for task in done)
                await send({"type": "http.response.body", "body": frames, "more_body": bool(running)})
        finally:
            for task in running:
                task.cancel()

    async def _framed(self, shared: Scope, index: int, own: Scope, body: bytes) -> bytes:
        """Return the frame with the answer of the application; empty if it sent none."""
        answer = _CollectedAnswer()
        scope = {**shared, **own, "state": dict(shared.get("state") or {})}
        await self._app(scope, _receive_body(body), answer)
        if answer.start is None:
            return b""
        start = answer.start
        return encode_answer(index, HttpAnswer(start["status"], list(start["headers"]), b"".join(answer.pieces)))


class _CollectedAnswer:
    """An ASGI `send` that keeps the messages of an answer."""

    def __init__(self) -> None:
        self.start: Message | None = None
        self.pieces: list[bytes] = []

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.start = message
        else:
            self.pieces.append(message.get("body", b""))


def _receive_body(body: bytes) -> Receive:
    """Return an ASGI `receive` with the body in one piece. Only the proxy knows whether a client disconnects."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        never: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        return await never

    return receive

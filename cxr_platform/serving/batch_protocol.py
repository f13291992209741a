"""Several requests to one address as one request of Serve's: how they travel, and what unpacks them in a replica.

Serve asks for milliseconds of processor time a call, whatever is in it. So `gather.Gatherer`, in the proxy, puts what
waits at the same time into one call, and here every request of it goes through the very same application by itself:
who may ask, request id, limits, counts and problems are each request's own.

The requests travel in the ASGI scope, under a key that no server makes of anything a client sends: a pack cannot come
from outside, and without the proxy's middleware there are none. The answers come back in the body, in frames, each as
soon as it is there or with those that follow within `TOGETHER_SECONDS`: a slow image keeps no other answer back for
longer.
"""

import asyncio
import struct
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cxr_platform.serving.envelope import App, Message, Receive, Scope, Send

KEY = "cxr.pack"
REPLICA = b"x-cxr-replica"
"""A header of the answer to a pack: which replica it was, by a name that it gave itself."""

TOGETHER_SECONDS = 0.05
OWN = ("headers", "client")
"""What of the scope differs between requests of a pack; the address, the method and the rest they share."""

FRAME = struct.Struct(">HHII")
"""Place in the pack, status, length of the headers, length of the body. Both follow; headers as lines `name:value`."""

Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Answer:
    """What a request was answered."""

    status: int
    headers: Headers
    body: bytes


def packed(requests: Sequence[tuple[Scope, bytes]]) -> dict[str, Any]:
    """The scope of a call that asks all of `requests` (scope, body); they have the address of the first."""
    first = requests[0][0]
    own = [({name: scope[name] for name in OWN}, body) for scope, body in requests]
    return {**first, "headers": list(first["headers"]), KEY: own}


def frame(place: int, answer: Answer) -> bytes:
    """The answer to the request at `place` of a pack."""
    headers = b"\n".join(name + b":" + value for name, value in answer.headers)
    return FRAME.pack(place, answer.status, len(headers), len(answer.body)) + headers + answer.body


class Frames:
    """Puts frames together again, however they were cut."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, piece: bytes) -> Iterator[tuple[int, Answer]]:
        """The places and answers that are whole with this piece."""
        self._held += piece
        while len(self._held) >= FRAME.size:
            place, status, head, length = FRAME.unpack_from(self._held)
            ends = FRAME.size + head + length
            if len(self._held) < ends:
                return
            lines = bytes(self._held[FRAME.size : FRAME.size + head]).split(b"\n") if head else []
            body = bytes(self._held[FRAME.size + head : ends])
            del self._held[:ends]
            yield place, Answer(status, [(name, value) for name, _, value in (x.partition(b":") for x in lines)], body)


class Unpacking:
    """ASGI middleware in the replica, outermost."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._replica = uuid.uuid4().hex.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's entry."""
        if KEY not in scope:
            return await self._app(scope, receive, send)
        shared = {name: value for name, value in scope.items() if name != KEY}
        asked = {asyncio.ensure_future(self._one(shared, place, *item)) for place, item in enumerate(scope[KEY])}
        start: Message | None = {"type": "http.response.start", "status": 200, "headers": [(REPLICA, self._replica)]}
        try:
            while asked:
                done, asked = await asyncio.wait(asked, timeout=TOGETHER_SECONDS)
                if not done:
                    continue
                if start is not None:
                    await send(start)
                start, frames = None, b"".join(task.result() for task in done)
                await send({"type": "http.response.body", "body": frames, "more_body": bool(asked)})
        finally:
            for task in asked:
                task.cancel()

    async def _one(self, shared: Scope, place: int, own: Scope, body: bytes) -> bytes:
        scope = {**shared, **own, "state": dict(shared.get("state") or {})}
        kept = _Kept()
        await self._app(scope, _whole(body), kept)
        return b"" if kept.status is None else frame(place, Answer(kept.status, kept.headers, b"".join(kept.pieces)))


class _Kept:
    """An ASGI `send` that keeps the answer."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.headers: Headers = ()
        self.pieces: list[bytes] = []

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message["headers"])
        else:
            self.pieces.append(message.get("body", b""))


def _whole(body: bytes) -> Receive:
    """An ASGI `receive` that gives the body in one piece. Whose client leaves is known to the proxy alone."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        return await asyncio.get_running_loop().create_future()

    return receive

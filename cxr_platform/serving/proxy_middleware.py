"""What stands in Serve's proxy, before the replicas: it holds a request until it is whole, and asks again where a
replica dies over it.

Serve's proxy hands a request to a replica at its first byte, keeps what has arrived of a body without a limit while
the request waits, answers 500 for every request that a dying replica had, and says all this in plain text. So:

- a body is read here, counted and timed; a slow client occupies no replica;
- images that wait at the same time go to a replica together (`gather.py`), as Serve's own work is by the call;
- a request without an answer of ours is asked again, as screening changes nothing, and only then becomes a 503;
- what the proxy itself says (queue full, no replica, too late) becomes problem details;
- what is answered here is counted here, by the name under which replicas count (`monitoring.names.REQUESTS`);
- headers that steer Serve, or that nobody here reads, are not passed on; the request id is always made here.

All this for our own requests and for those that are nobody's (404). What belongs to another application of the cluster
passes untouched, both ways (`neighbours.py`).

Serve takes it from the environment of its proxies: RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=
cxr_platform.serving.proxy_middleware:middlewares. Without it the application still guards itself (`app.py`).
"""

import os
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import closing
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from cxr_platform.serving.batch_protocol import Answer
from cxr_platform.serving.envelope import admit, is_ours, route_of
from cxr_platform.serving.keys import KeyCheck, find_keys
from cxr_platform.serving.metrics import NoMetrics, ProxyCount
from cxr_platform.serving.other_apps import Neighbours
from cxr_platform.serving.problems import MEDIA_TYPE, RETRY_SECONDS, Problem, problem_of_status
from cxr_platform.serving.request_batcher import Gatherer, may_be_packed
from cxr_platform.serving.upload import Disconnected, Limits, Receive, body_of

if TYPE_CHECKING:
    from starlette.middleware import Middleware

IMPORT_PATH = "cxr_platform.serving.proxy_middleware:middlewares"
VARIABLE = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
ATTEMPTS = 2
"""A request over which two replicas have died is not shown to a third."""

HELD_BYTES = 512 * 2**20
"""Of bodies that are being read or answered; more are told to come back."""

OURS = b"x-content-type-options"
"""A header that every answer of the application has and none of Serve's own.

Serve's own are errors, so a good answer without it is passed on too: it is of an application that has taken our place
at "/", and its keepers would look for the fault everywhere but here.
"""

PASSED_ON = frozenset(
    {b"accept", b"authorization", b"content-length", b"content-type", b"host", b"if-modified-since", b"if-none-match"}
    | {b"x-api-key"}
)
OF_SERVE = ("/-/healthz", "/-/routes")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Count = Callable[[str, int], None]
"""Told the route and the status of an answer."""


def middlewares() -> "list[Middleware]":
    """For Serve's proxies: `Front` with the API keys of their environment, if it names any."""
    from starlette.middleware import Middleware

    return [Middleware(Front, keys=find_keys(None, os.environ), count=ProxyCount())]


class Front:
    """ASGI middleware. Who may ask is checked here too, as in the replicas, so that strangers' bodies are never read.

    `count` is told of every answer that is given here; the replicas count their own.
    """

    def __init__(
        self,
        app: App,
        keys: KeyCheck | None = None,
        limits: Limits | None = None,
        held_bytes: int = HELD_BYTES,
        count: Count | None = None,
    ) -> None:
        self._app = app
        self._count = count or NoMetrics().request
        self._keys = keys
        self._limits = limits or Limits()
        self._room = held_bytes
        self._in_flight = 0
        self._crowd = _Crowd()
        self._gatherer = Gatherer(app)
        self._neighbours = Neighbours(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's entry."""
        if scope["type"] != "http" or scope["path"] in OF_SERVE or await self._is_anothers(scope):
            return await self._app(scope, receive, send)
        request_id = uuid.uuid4().hex
        kept = [(name, value) for name, value in scope["headers"] if name in PASSED_ON]
        inner = {**scope, "headers": [*kept, (b"x-request-id", request_id.encode())]}
        try:
            if scope["path"] == "/healthz":
                self._count("/healthz", 200)
                await _send(send, 200, b"application/json", b'{"status":"alive"}', {})
            else:
                await self._guarded(inner, receive, send)
        except Problem as problem:
            self._count(route_of(scope["path"]), problem.status)
            body = problem.body(request_id)
            await _send(
                send, problem.status, MEDIA_TYPE.encode(), body, {"X-Request-ID": request_id, **problem.headers}
            )
        except Disconnected:
            pass

    async def _is_anothers(self, scope: Scope) -> bool:
        return not is_ours(scope["path"]) and await self._neighbours.own(scope)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_body = scope["method"] not in ("GET", "HEAD")
        admit(self._keys, scope, needs_key=has_body)
        if not has_body:
            return await self._ask(scope, b"", receive, send)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self._crowd.check(self._in_flight)
        pieces, held = [], 0
        self._in_flight += 1
        try:
            async for piece in body_of(receive, headers, self._limits):
                self._room -= len(piece)
                held += len(piece)
                if self._room < 0:
                    raise Problem("busy")
                pieces.append(piece)
            await self._ask_in_turn(scope, b"".join(pieces), receive, send)
        except Problem as problem:
            if problem.reason == "busy":
                self._crowd.was_too_large(self._in_flight)
            raise
        finally:
            self._in_flight -= 1
            self._room += held

    async def _ask_in_turn(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Alone, or together with others that wait; where a replica dies over a pack, each of it is asked alone."""
        if not may_be_packed(scope, body):
            await self._ask(scope, body, receive, send)
            return
        got = await self._gatherer.ask(scope, body, receive)
        if isinstance(got, Answer):
            await send({"type": "http.response.start", "status": got.status, "headers": got.headers})
            await send({"type": "http.response.body", "body": got.body, "more_body": False})
        elif got is None:
            await self._ask(scope, body, receive, send, ATTEMPTS - 1)
        else:
            with closing(got):
                await self._ask(scope, body, receive, send)

    async def _ask(self, scope: Scope, body: bytes, receive: Receive, send: Send, attempts: int = ATTEMPTS) -> None:
        """Pass the request on until it is answered; each time with a scope of its own, which the proxy changes."""
        for _ in range(attempts):
            answer, replay = _Answer(send), _Replay(body, receive)
            await self._app({**scope, "headers": list(scope["headers"])}, replay, answer)
            if answer.passed_on:
                return
            if replay.gone:  # Serve says nothing to a client that has left, as it says nothing where a replica died
                raise Disconnected
            if answer.status is not None:
                raise problem_of_status(answer.status)
        raise Problem("unavailable")


class _Crowd:
    """How many requests are too many, as Serve's queue last said; for a second, then it is asked again.

    Until then a request too many is refused before its body is read, so that refusing costs less than answering.
    """

    def __init__(self) -> None:
        self._most, self._until = 0, 0.0

    def check(self, in_flight: int) -> None:
        if in_flight >= self._most and time.monotonic() < self._until:
            raise Problem("busy")

    def was_too_large(self, in_flight: int) -> None:
        self._most, self._until = in_flight - 1, time.monotonic() + RETRY_SECONDS


class _Answer:
    """Passes an application's answer on, once its first piece is there, and keeps Serve's own back."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self.passed_on = False
        self.status: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            good = message["status"] < HTTPStatus.BAD_REQUEST
            if good or any(name.lower() == OURS for name, _ in message["headers"]):
                self._start = message
            else:
                self.status = message["status"]
        elif self._start is not None or self.passed_on:
            if self._start is not None:
                start, self._start, self.passed_on = self._start, None, True
                await self._send({**start, "headers": list(dict.fromkeys(map(_lower, start["headers"])))})
            await self._send(message)


def _lower(header: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """So that the request id, which Serve adds to the application's, is there once."""
    return header[0].lower(), header[1]


class _Replay:
    """The body in one piece, then whatever the client does: it can only leave, and `gone` says that it has."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body, self._receive = body, receive
        self._sent = False
        self.gone = False

    async def __call__(self) -> Any:
        if not self._sent:
            self._sent = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        message = await self._receive()
        self.gone = self.gone or message["type"] == "http.disconnect"
        return message


async def _send(send: Send, status: int, media_type: bytes, body: bytes, headers: dict[str, str]) -> None:
    fixed = [(b"content-type", media_type), (b"content-length", b"%d" % len(body)), (OURS, b"nosniff")]
    further = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": [*fixed, *further]})
    await send({"type": "http.response.body", "body": body, "more_body": False})

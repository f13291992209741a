"""The ASGI middleware in Serve's proxy, in front of the replicas.

Serve's proxy hands a request to a replica at its first byte, buffers bodies without a limit, answers 500 for every
request of a replica that dies, and reports errors in plain text. This middleware therefore

- checks API keys and their limits, and reads the body, limited in size and time, before a replica sees the request;
- sends images that wait at the same time in one call (`request_batcher`), because Serve's own work is per call;
- repeats a request that got no answer, as screening changes nothing, and answers 503 only after that;
- turns errors of the proxy (queue full, no replica, timeout) into problem details;
- counts and logs what it answers itself, as replicas do (`monitoring.names.REQUESTS`, `request_log`);
- times every request, and publishes how many upload, wait and are forwarded: requests wait here, not in replicas;
- drops headers that control Serve or that this application does not read, and makes the request id;
- closes WebSockets, and without keys shows Serve's route table to this machine only.

Requests of other applications on the cluster pass unchanged in both directions (`routes.OtherApps`).

Serve loads it from the environment of its proxies: RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=
cxr_platform.serving.proxy_middleware:middlewares. Without it the application still checks keys and limits itself.
"""

import os
import re
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from http import HTTPStatus
from typing import Any

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cxr_platform.serving import http_protocol
from cxr_platform.serving.access import check_access
from cxr_platform.serving.api_keys import KeyCheck, RequestLimits, load_keys
from cxr_platform.serving.batch_protocol import HttpAnswer
from cxr_platform.serving.metrics import ProxyMetrics, ServingMetrics
from cxr_platform.serving.problems import MEDIA_TYPE, RETRY_SECONDS, Problem, log_internal_error, problem_for_status
from cxr_platform.serving.request_batcher import RequestBatcher, is_batchable
from cxr_platform.serving.request_log import RequestLog
from cxr_platform.serving.routes import HEALTH_PATH, ROUTE_TABLE, OtherApps, is_own_path, route_label
from cxr_platform.serving.upload import Disconnected, Limits, iter_body

IMPORT_PATH = "cxr_platform.serving.proxy_middleware:middlewares"
VARIABLE = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
ATTEMPTS = 2
"""A request during which two replicas died is not sent to a third."""

MAX_HELD_BYTES = 512 * 2**20
"""Limit of the bodies that are being read or answered; further requests get 429."""

APP_HEADER = b"x-content-type-options"
"""A header that every answer of this application has and no answer of Serve itself.

Answers of Serve itself are errors, so a successful answer without it is forwarded too: it comes from another
application that was deployed at "/".
"""

FORWARDED_HEADERS = frozenset(
    {b"accept", b"authorization", b"content-length", b"content-type", b"host", b"if-modified-since", b"if-none-match"}
    | {b"x-api-key"}
)
TRACEPARENT = re.compile(rb"[0-9a-f]{2}(-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})")
"""Trace Context (W3C): the id of a trace, which a replica may be asked to continue."""


def middlewares() -> list[Middleware]:
    """Return the middleware for Serve's proxies, with the API keys of their environment; limit their connections."""
    metrics = ProxyMetrics()
    http_protocol.install(metrics)  # Serve calls this before it starts uvicorn, and offers no other way to configure it
    keys, log = load_keys(None, os.environ), RequestLog.from_environment()
    return [Middleware(ProxyMiddleware, keys=keys, count=metrics, log=log, metrics=metrics)]


class ProxyMiddleware:
    """ASGI middleware around `app`, which is Serve's proxy.

    `count` receives route label, status and name of the API key of every answer that is given here, and `log` a line;
    replicas count and log their own. `metrics` times all of them and receives how many are not answered.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: KeyCheck | None = None,
        limits: Limits | None = None,
        max_held_bytes: int = MAX_HELD_BYTES,
        count: Callable[[str, int, str | None], None] | None = None,
        log: RequestLog | None = None,
        metrics: ProxyMetrics | None = None,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._keys = keys
        self._limits = limits or Limits()
        self._count, self._log = count or ServingMetrics().count_request, log or RequestLog()
        self._limits_of_keys = RequestLimits()
        self._free_bytes = max_held_bytes
        self._running = self._uploading = self._open = 0
        self._queue_limit = _QueueLimit()
        self._batcher = RequestBatcher(app)
        self._other_apps = OtherApps(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI call."""
        if scope["type"] not in ("http", "websocket") or scope["path"] == HEALTH_PATH:
            return await self._app(scope, receive, send)
        if not is_own_path(scope["path"]) and await self._other_apps.own(scope):
            return await self._app(scope, receive, send)
        self._open += 1
        if self._metrics is not None:
            self._metrics.watch(self.requests)
        began, watched = time.monotonic(), _WatchedAnswer(send)
        try:
            await self._answer(scope, receive, watched, began)
        finally:
            self._open -= 1
            if self._metrics is not None and watched.status:
                self._metrics.observe(route_label(scope["path"]), watched.status, time.monotonic() - began)

    def requests(self) -> dict[str, int]:
        """Return the requests that are not answered, by the states of `names.PROXY_REQUESTS`."""
        waiting = self._batcher.waiting
        return {
            "upload": self._uploading,
            "waiting": waiting,
            "forwarded": max(0, self._open - self._uploading - waiting),
        }

    async def _answer(self, scope: Scope, receive: Receive, send: Send, began: float) -> None:
        """Answer a request of this application."""
        request_id = uuid.uuid4().hex
        headers = [(name, value) for name, value in scope["headers"] if _is_forwarded(name, value)]
        own_scope = {**scope, "headers": [*headers, (b"x-request-id", request_id.encode())]}
        key = None

        def note(status: int, reason: str | None = None) -> None:
            route, name = route_label(scope["path"]), None if key is None else key.name
            self._count(route, status, name)
            fields = {"key": name, "reason": reason}
            self._log.write(request_id, route, status, time.monotonic() - began, fields)

        if scope["type"] == "websocket":  # any website may open one, and no route of this application answers it
            note(HTTPStatus.FORBIDDEN, "not-found")
            await send({"type": "websocket.close"})
            return
        try:
            if scope["path"] == ROUTE_TABLE:
                check_access(self._keys, scope, needs_key=False)
                await self._app(scope, receive, send)
            elif scope["path"] == "/healthz":
                note(200)
                await _send_answer(send, 200, b"application/json", b'{"status":"alive"}', {})
            else:
                key = check_access(self._keys, scope, needs_key=_has_body(scope))
                self._limits_of_keys.take(key)
                await self._handle(own_scope, receive, send)
        except Disconnected:
            pass
        except Exception as error:
            if not isinstance(error, Problem):
                log_internal_error(request_id, error)
            problem = error if isinstance(error, Problem) else Problem("internal-error")
            note(problem.status, problem.reason)
            fields = {"X-Request-ID": request_id, **problem.headers}
            # If another answer has begun, uvicorn refuses this one and closes the connection.
            await _send_answer(send, problem.status, MEDIA_TYPE.encode(), problem.body(request_id), fields)

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body within the limits, and forward the request."""
        if not _has_body(scope):
            return await self._forward(scope, b"", receive, send)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self._queue_limit.check(self._running)
        pieces, held = [], 0
        self._running += 1
        try:
            self._uploading += 1
            try:
                async for piece in iter_body(receive, headers, self._limits):
                    self._free_bytes -= len(piece)
                    held += len(piece)
                    if self._free_bytes < 0:
                        raise Problem("busy")
                    pieces.append(piece)
            finally:
                self._uploading -= 1
            await self._forward_body(scope, b"".join(pieces), receive, send)
        except Problem as problem:
            if problem.reason == "busy":
                self._queue_limit.note_full(self._running)
            raise
        finally:
            self._running -= 1
            self._free_bytes += held

    async def _forward_body(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Send a request alone or in a batch; if a replica dies with a batch, send each of its requests alone."""
        if not is_batchable(scope, body):
            await self._forward(scope, body, receive, send)
            return
        outcome = await self._batcher.submit(scope, body, receive)
        if isinstance(outcome, HttpAnswer):
            await send({"type": "http.response.start", "status": outcome.status, "headers": outcome.headers})
            await send({"type": "http.response.body", "body": outcome.body, "more_body": False})
        elif outcome is None:
            await self._forward(scope, body, receive, send, ATTEMPTS - 1)
        else:
            with closing(outcome):
                await self._forward(scope, body, receive, send)

    async def _forward(self, scope: Scope, body: bytes, receive: Receive, send: Send, attempts: int = ATTEMPTS) -> None:
        """Forward a request until it is answered. Each attempt has its own scope, because Serve's proxy changes it."""
        for _ in range(attempts):
            answer, replay = _ForwardedAnswer(send), _ReplayedBody(body, receive)
            await self._app({**scope, "headers": list(scope["headers"])}, replay, answer)
            if answer.forwarded:
                return
            if replay.disconnected:  # Serve ends without an answer, as it does when a replica dies
                raise Disconnected
            if answer.serve_status is not None:
                raise problem_for_status(answer.serve_status)
        raise Problem("unavailable")


class _WatchedAnswer:
    """An ASGI `send` that remembers the status."""

    def __init__(self, send: Send) -> None:
        self._send, self.status = send, 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


class _QueueLimit:
    """The number of requests at which Serve's queue was full, remembered for `RETRY_SECONDS`.

    Until then further requests are refused before their body is read, so that a refusal costs less than an answer.
    """

    def __init__(self) -> None:
        self._limit, self._until = 0, 0.0

    def check(self, running: int) -> None:
        if running >= self._limit and time.monotonic() < self._until:
            raise Problem("busy")

    def note_full(self, running: int) -> None:
        self._limit, self._until = running - 1, time.monotonic() + RETRY_SECONDS


class _ForwardedAnswer:
    """An ASGI `send` that forwards answers of applications, from the first piece on, and drops those of Serve itself.

    `serve_status` is the status of a dropped answer.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self.forwarded = False
        self.serve_status: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            succeeded = message["status"] < HTTPStatus.BAD_REQUEST
            if succeeded or any(name.lower() == APP_HEADER for name, _ in message["headers"]):
                self._start = message
            else:
                self.serve_status = message["status"]
        elif self._start is not None or self.forwarded:
            if self._start is not None:
                start, self._start, self.forwarded = self._start, None, True
                # Serve adds the request id once more, in other letters: in lower case the two are one.
                headers = dict.fromkeys((name.lower(), value) for name, value in start["headers"])
                await self._send({**start, "headers": list(headers)})
            await self._send(message)


class _ReplayedBody:
    """An ASGI `receive` with the body in one piece, then what the client does; `disconnected` says if it has left."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body, self._receive = body, receive
        self._sent = False
        self.disconnected = False

    async def __call__(self) -> Message:
        if not self._sent:
            self._sent = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        message = await self._receive()
        self.disconnected = self.disconnected or message["type"] == "http.disconnect"
        return message


def _has_body(scope: Scope) -> bool:
    return scope["method"] not in ("GET", "HEAD")


def _is_forwarded(name: bytes, value: bytes) -> bool:
    return name in FORWARDED_HEADERS or (name == b"traceparent" and TRACEPARENT.fullmatch(value) is not None)


async def _send_answer(send: Send, status: int, media_type: bytes, body: bytes, fields: dict[str, Any]) -> None:
    headers = [(b"content-type", media_type), (b"content-length", b"%d" % len(body)), (APP_HEADER, b"nosniff")]
    headers += [(name.lower().encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})

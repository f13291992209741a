"""The ASGI middleware in Serve's proxy, in front of the replicas.

Serve's proxy hands a request to a replica at its first byte, buffers bodies without a limit, answers 500 for every
request of a replica that dies, and reports errors in plain text. This middleware therefore

- checks API keys and their limits, and reads the body, limited in size and time, before a replica sees the request;
- forwards few requests at a time that need no key, where others need one;
- sends images that wait at the same time in one call (`request_batcher`), because Serve's own work is per call;
- forwards all others by themselves, again after no answer, with the headers that this application reads
  (`request_forwarder`);
- turns all errors into problem details, and makes the request id;
- counts, times and logs every request (`metrics`, `request_log`, `spans`), with what the replica states of it, and as
  499 one whose client left before the answer;
- closes WebSockets, and without keys shows Serve's route table to this machine only.

Requests of other applications on the cluster pass unchanged in both directions (`routes.OtherApps`).

Serve loads it from the environment of its proxies: RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=
cxr_platform.serving.proxy_middleware:middlewares. Without it the application still checks keys and limits itself.
"""

import logging
import os
import time
import uuid

from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cxr_platform.errors import ServingError
from cxr_platform.serving import http_protocol
from cxr_platform.serving.access import check_access, has_body
from cxr_platform.serving.api_keys import ApiKey, KeyCheck, RequestLimits, load_keys
from cxr_platform.serving.metrics import ProxyMetrics
from cxr_platform.serving.problems import RETRY_SECONDS, Problem, log_internal_error, problem_response
from cxr_platform.serving.request_batcher import RequestBatcher, is_batchable
from cxr_platform.serving.request_forwarder import ATTEMPTS, RequestForwarder, forwarded_headers, traceparent
from cxr_platform.serving.request_log import OUTCOME_HEADER, Outcome, RequestLog, read_outcome, request_line
from cxr_platform.serving.routes import HEALTH_PATH, ROUTE_TABLE, OtherApps, is_own_path, route_label
from cxr_platform.serving.spans import RequestSpans
from cxr_platform.serving.upload import Disconnected, Limits, iter_body

IMPORT_PATH = "cxr_platform.serving.proxy_middleware:middlewares"
MAX_HELD_BYTES = 512 * 2**20
"""Limit of the bodies that are being read or answered; further requests get 429."""

CLIENT_LEFT = 499
"""Status under which a request is counted and logged whose client left before the answer, as nginx does; never sent."""

MAX_KEYLESS_REQUESTS = 16
"""Where there are keys, so many requests without one (page, documentation, readiness) are forwarded at a time; further
ones get 429. They would take the places of Serve's queue from those with a key."""


def middlewares() -> list[Middleware]:
    """Return the middleware for Serve's proxies, with the API keys of their environment; limit their connections."""
    metrics = ProxyMetrics()
    # Serve calls this before it starts uvicorn, and offers no other way to configure it.
    http_protocol.install(metrics.count_refusal)
    keys, log, spans = load_keys(None, os.environ), RequestLog.from_environment(), RequestSpans()
    try:
        spans = RequestSpans.from_environment()
    except ServingError as error:  # the variable may be set for all programs of a cluster
        logging.getLogger(__name__).warning("No spans are sent: %s", error)
    return [Middleware(ProxyMiddleware, keys=keys, metrics=metrics, log=log, spans=spans)]


class ProxyMiddleware:
    """ASGI middleware around `app`, which is Serve's proxy.

    `metrics` counts and times the requests of this application, `log` gets a line and `spans` a span for each.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: KeyCheck | None = None,
        limits: Limits | None = None,
        max_held_bytes: int = MAX_HELD_BYTES,
        metrics: ProxyMetrics | None = None,
        log: RequestLog | None = None,
        spans: RequestSpans | None = None,
    ) -> None:
        self._app, self._keys = app, keys
        self._limits = limits or Limits()
        self._metrics, self._log, self._spans = metrics, log or RequestLog(), spans or RequestSpans()
        self._limits_of_keys = RequestLimits()
        self._free_bytes = max_held_bytes
        self._running = self._uploading = self._open = self._keyless = 0
        self._queue_limit = _QueueLimit()
        self._batcher, self._forwarder = RequestBatcher(app), RequestForwarder(app)
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
        answer = _Answer(send)
        try:
            await self._answer(scope, receive, answer)
        except Disconnected:
            answer.status = answer.status or CLIENT_LEFT
        except Exception as error:
            problem = error if isinstance(error, Problem) else Problem("internal-error")
            if problem is not error:
                log_internal_error(answer.request_id, error)
            answer.outcome = Outcome(reason=problem.reason)
            # If another answer has begun, uvicorn refuses this one and closes the connection.
            await problem_response(problem, answer.request_id)(scope, receive, answer)
        finally:
            self._open -= 1
            if answer.status:
                self._note(scope, answer)

    def requests(self) -> dict[str, int]:
        """Return the requests that are not answered, by the states of `names.PROXY_REQUESTS`."""
        waiting = self._batcher.waiting
        return {
            "upload": self._uploading,
            "waiting": waiting,
            "forwarded": max(0, self._open - self._uploading - waiting),
        }

    def _note(self, scope: Scope, answer: "_Answer") -> None:
        """Count and log a request that was answered, or whose client has left."""
        route, key = route_label(scope["path"]), None if answer.key is None else answer.key.name
        seconds = time.monotonic() - answer.began
        if self._metrics is not None:
            self._metrics.add_request(route, answer.status, key, seconds)
        if self._log.is_open or self._spans.is_open:
            stages = {**answer.seconds, "total": seconds}
            line = request_line(answer.request_id, route, answer.status, key, answer.outcome, stages)
            self._log.write(line)
            self._spans.record(line, traceparent(scope))

    async def _answer(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        """Answer a request of this application."""
        if scope["type"] == "websocket":  # any website may open one, and no route of this application answers it
            answer.status, answer.outcome = 403, Outcome(reason="not-found")
            await answer({"type": "websocket.close"})
        elif scope["path"] == ROUTE_TABLE:
            check_access(self._keys, scope)
            await self._app(scope, receive, answer)
        elif scope["path"] == "/healthz" and not has_body(scope):
            await JSONResponse({"status": "alive"}, headers={"X-Content-Type-Options": "nosniff"})(
                scope, receive, answer
            )
        else:
            answer.key = check_access(self._keys, scope)
            self._limits_of_keys.take(answer.key)
            own_scope = {**scope, "headers": forwarded_headers(scope, answer.request_id)}
            if has_body(scope):
                await self._answer_upload(own_scope, receive, answer)
            elif answer.key is None and self._keys is not None:
                await self._forward_keyless(own_scope, receive, answer)
            else:
                await self._forwarder.forward(own_scope, b"", receive, answer)

    async def _forward_keyless(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request that needs no key where others need one, unless many such requests are under way."""
        if self._keyless >= MAX_KEYLESS_REQUESTS:
            raise Problem("busy")
        self._keyless += 1
        try:
            await self._forwarder.forward(scope, b"", receive, send)
        finally:
            self._keyless -= 1

    async def _answer_upload(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        """Read the body within the limits, and forward the request."""
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
                answer.seconds["body"] = time.monotonic() - answer.began
            await self._forward_body(scope, b"".join(pieces), receive, answer)
        except Problem as problem:
            if problem.reason == "busy":
                self._queue_limit.note_full(self._running)
            raise
        finally:
            self._running -= 1
            self._free_bytes += held

    async def _forward_body(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Send a request in a batch, or alone; if a replica dies with a batch, send each of its requests alone."""
        attempts = ATTEMPTS
        if is_batchable(scope, body):
            answer = await self._batcher.submit(scope, body, receive)
            if answer is not None:
                await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
                await send({"type": "http.response.body", "body": answer.body, "more_body": False})
                return
            attempts -= 1
        await self._forwarder.forward(scope, body, receive, send, attempts)


class _Answer:
    """The answer to a request: an ASGI `send` that remembers what is counted and logged of it."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.request_id, self.began = uuid.uuid4().hex, time.monotonic()
        self.key: ApiKey | None = None
        self.status, self.outcome = 0, Outcome()
        self.seconds: dict[str, float] = {}

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            # Serve adds the request id once more, in other letters: in lower case the two are one.
            headers = dict.fromkeys((name.lower(), value) for name, value in message["headers"])
            for name, value in headers:
                if name == OUTCOME_HEADER:
                    self.outcome = read_outcome(value)
            message = {**message, "headers": [header for header in headers if header[0] != OUTCOME_HEADER]}
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

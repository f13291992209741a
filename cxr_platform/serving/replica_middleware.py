"""The ASGI middleware around the application: access check, request id, security headers, errors, count and log."""

import re
import time
import uuid
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cxr_platform.serving.access import check_access
from cxr_platform.serving.api_keys import KeyCheck
from cxr_platform.serving.metrics import ServingMetrics
from cxr_platform.serving.problems import MEDIA_TYPE, Problem, log_internal_error
from cxr_platform.serving.request_log import RequestLog
from cxr_platform.serving.routes import route_label

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page loads its own files only; blob: is the user's image, data: are the images of an answer."""

HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
"""Headers of every answer that does not set them itself."""

REQUEST_ID = re.compile(rb"[0-9a-f]{32}")
"""A request id as the proxy middleware makes it; any other is replaced."""


class ReplicaMiddleware:
    """Wraps the application of a replica. Paths below /v1/ need one of `keys`, if there are any.

    The application adds to `scope["state"]["logged"]` what `log` is to say of a request.
    """

    def __init__(
        self, app: ASGIApp, keys: KeyCheck | None, metrics: ServingMetrics, log: RequestLog | None = None
    ) -> None:
        self._app, self._keys, self._metrics, self._log = app, keys, metrics, log or RequestLog()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI call."""
        if scope["type"] == "websocket":  # no route answers it
            await send({"type": "websocket.close"})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"x-request-id", b"")
        request_id = given.decode() if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        logged: dict[str, Any] = {}
        scope.setdefault("state", {}).update(request_id=request_id, logged=logged)
        answer, began, key = _Answer(send, request_id), time.perf_counter(), None
        try:
            key = check_access(self._keys, scope, needs_key=scope["path"].startswith("/v1/"))
            await self._app(scope, receive, answer)
        except Problem as problem:
            logged["reason"] = problem.reason
            await answer.send_problem(problem)
        except Exception as error:
            log_internal_error(request_id, error)
            await answer.send_problem(Problem("internal-error"))
        name, route = None if key is None else key.name, route_label(scope["path"])
        self._metrics.count_request(route, answer.status, name)
        self._log.write(request_id, route, answer.status, time.perf_counter() - began, {**logged, "key": name})


class _Answer:
    """An ASGI `send` that adds headers to the answer and remembers its status."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send, self._request_id = send, request_id
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            present = {name.lower() for name, _ in message["headers"]}
            added = {**HEADERS, "x-request-id": self._request_id}
            missing = [(n.encode(), v.encode()) for n, v in added.items() if n.encode() not in present]
            message["headers"] = [*message["headers"], *missing]
        await self._send(message)

    async def send_problem(self, problem: Problem) -> None:
        if self.status:
            return  # the answer has begun and cannot be replaced
        body = problem.body(self._request_id)
        fields = {"content-type": MEDIA_TYPE, "content-length": str(len(body)), **problem.headers}
        headers = [(name.lower().encode(), value.encode()) for name, value in fields.items()]
        await self({"type": "http.response.start", "status": problem.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

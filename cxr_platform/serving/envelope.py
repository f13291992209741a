"""What every request goes through and every answer gets: who may ask, a request id, headers for browsers, a count."""

import re
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from cxr_platform.serving.keys import KeyCheck, is_loopback, key_in
from cxr_platform.serving.metrics import Metrics
from cxr_platform.serving.problems import MEDIA_TYPE, Problem, log_defect

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page loads nothing from elsewhere; its pictures are the visitor's own file and the answer's."""

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
ROUTES = ("/v1/screen", "/v1/screen/batch", "/v1/model", "/healthz", "/readyz", "/docs", "/openapi.json", "/", "/page")
FOLDERS = ("/page/", "/samples/", "/problems/")
"""Below these are further addresses of the application."""

MADE_BY_US = re.compile(rb"[0-9a-f]{32}")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Envelope:
    """ASGI middleware round the application."""

    def __init__(self, app: App, keys: KeyCheck | None, metrics: Metrics) -> None:
        self._app, self._keys, self._metrics = app, keys, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's entry."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if MADE_BY_US.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        answer = _Answer(send, request_id)
        try:
            admit(self._keys, scope, needs_key=scope["path"].startswith("/v1/"))
            await self._app(scope, receive, answer)
        except Problem as problem:
            await answer.problem(problem)
        except Exception as error:
            log_defect(request_id, error)
            await answer.problem(Problem("defect"))
        self._metrics.request(route_of(scope["path"]), answer.status)


class _Answer:
    def __init__(self, send: Send, request_id: str) -> None:
        self._send, self._request_id = send, request_id
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            present = {name.lower() for name, _ in message["headers"]}
            ours = {**HEADERS, "x-request-id": self._request_id}
            added = [(n.encode(), v.encode()) for n, v in ours.items() if n.encode() not in present]
            message["headers"] = [*message["headers"], *added]
        await self._send(message)

    async def problem(self, problem: Problem) -> None:
        if self.status:
            return  # the answer has begun: there is nothing that could still be said
        body = problem.body(self._request_id)
        fixed = {"content-type": MEDIA_TYPE, "content-length": str(len(body)), **problem.headers}
        headers = [(name.lower().encode(), value.encode()) for name, value in fixed.items()]
        await self({"type": "http.response.start", "status": problem.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})


def admit(keys: KeyCheck | None, scope: Scope, needs_key: bool) -> None:
    """Raise `Problem`: without `keys` for every client beyond loopback, with them for one that lacks a key it needs."""
    if keys is None:
        client = scope.get("client")
        if not is_loopback(client[0] if client else None):
            raise Problem("not-loopback")
    elif needs_key:
        texts = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if not keys.open_to(key_in(texts)):
            raise Problem("no-key")


def route_of(path: str) -> str:
    """The label under which a request is counted; never the path that came, which a stranger chooses."""
    whole = "/page" if path.startswith("/page/") else path
    return whole if whole in ROUTES else "other"


def is_ours(path: str) -> bool:
    """Whether the application has something at `path`, or below the folder that it is in."""
    return path in ROUTES or path == "/samples" or path.startswith(FOLDERS)

"""In the proxy: forward a request to a replica until it is answered, with the headers that this application reads.

A request without an answer is sent again, as screening changes nothing: Serve's proxy ends without one if the replica
dies. Its errors (queue full, no replica, timeout) are plain text and become problems.
"""

import re
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cxr_platform.serving.problems import Problem, problem_for_status
from cxr_platform.serving.upload import Disconnected

ATTEMPTS = 2
"""A request during which two replicas died is not sent to a third."""

APP_HEADER = b"x-content-type-options"
"""A header that every answer of this application has and no answer of Serve itself.

Answers of Serve itself are errors, so a successful answer without it is forwarded too: it comes from another
application that was deployed at "/".
"""

FORWARDED_HEADERS = frozenset(
    {b"accept", b"authorization", b"content-encoding", b"content-length", b"content-type", b"host"}
    | {b"if-modified-since", b"if-none-match", b"x-api-key"}
)
TRACEPARENT = re.compile(rb"[0-9a-f]{2}(-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})")
"""Trace Context (W3C): the id of a trace, which a replica may be asked to continue."""

TRACESTATE = re.compile(rb"[\t -~]{1,512}")
"""What the systems of a trace add to it; it is passed on beside a valid id only."""


def forwarded_headers(scope: Scope, request_id: str) -> list[tuple[bytes, bytes]]:
    """Return the headers that a replica gets of a request; the client's own request id is not among them."""
    given = scope["headers"]
    headers = [(name, value) for name, value in given if name in FORWARDED_HEADERS or _is_trace(name, value)]
    if traceparent(scope) is not None:
        headers += [(name, value) for name, value in given if name == b"tracestate" and TRACESTATE.fullmatch(value)]
    return [*headers, (b"x-request-id", request_id.encode())]


def traceparent(scope: Scope) -> str | None:
    """Return the client's `traceparent`, if it has the form of one."""
    value: bytes | None = next((value for name, value in scope["headers"] if _is_trace(name, value)), None)
    return None if value is None else value.decode("ascii")


class RequestForwarder:
    """Forwards requests to `app`, which is Serve's proxy, one call for each attempt."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def forward(self, scope: Scope, body: bytes, receive: Receive, send: Send, attempts: int = ATTEMPTS) -> None:
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


def _is_trace(name: bytes, value: bytes) -> bool:
    return name == b"traceparent" and TRACEPARENT.fullmatch(value) is not None


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
                await self._send(start)
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

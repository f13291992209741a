"""An application that behaves like Serve's proxy: its replicas die, its own errors are plain text."""

from collections.abc import Awaitable, Callable
from typing import Any

from cxr_platform.serving.batch_protocol import KEY, REPLICA_HEADER, BatchSplitter

OURS = [(b"X-Content-Type-Options", b"nosniff"), (b"X-Request-ID", b"1"), (b"x-request-id", b"1")]
PLAIN = [(b"content-type", b"text/plain")]


async def read_all(receive: Callable[[], Awaitable[Any]]) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    return body


class FakeServe:
    """A Serve whose replica dies `deaths` times and then answers `status` with the body that it received."""

    def __init__(self, deaths: int = 0, status: int = 200, headers: Any = OURS, late: bool = False) -> None:
        self.deaths, self.status, self.headers, self.late = deaths, status, headers, late
        self.scopes: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        is_batch, of_serve = KEY in scope, self.status >= 400 and self.headers == PLAIN
        self.scopes.append({**scope, "headers": list(scope["headers"])})
        scope["headers"].clear()
        if len(self.scopes) > self.deaths:
            await (self._answer if of_serve or not is_batch else BatchSplitter(self._answer))(scope, receive, send)
        elif self.late:
            headers = [(REPLICA_HEADER, b"1")] if is_batch else self.headers
            await send({"type": "http.response.start", "status": self.status, "headers": headers})

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        body = b"" if KEY in scope else await read_all(receive)
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": body[:3], "more_body": True})
        await send({"type": "http.response.body", "body": body[3:]})

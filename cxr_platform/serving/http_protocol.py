"""Limits of connections before a request exists: bytes, number and duration of headers, and number of connections.

A middleware sees a request only when its headers are complete, and uvicorn limits none of them. This protocol class of
uvicorn does, so that a client without a key costs little:

- headers above a size or a number get 431 while they arrive, trailers of a chunked body likewise;
- headers must be complete a few seconds after the connection was made, or after their first byte if it is used again;
- one request may follow before the one under way is answered (pipelining); uvicorn would queue any number;
- a client must read its answer: one that leaves it in the write buffer is disconnected;
- a connection above the limit takes the place of the one that has been without a request, or has not read its answer,
  for the longest time. A good client sends its request at once and keeps its place, also while thousands of connections
  are opened and left idle.

`install` makes it the protocol of every uvicorn that starts in this process later; the proxy middleware calls it in
Serve's proxies before their server starts. It does not limit the TLS handshake, for which asyncio waits 60 s.
"""

import asyncio
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any

from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cxr_platform.serving.problems import MEDIA_TYPE, Problem

UNKNOWN_ROUTE = "other"
"""Label under which requests are counted whose headers were not read to the end (`routes.route_label`)."""

PIPELINED = 1
"""Requests of a connection that wait for the answer before them. Browsers and HTTP libraries send none in advance."""

HANDSHAKE = {
    b"sec-websocket-key": re.compile(rb"[A-Za-z0-9+/]{22}=="),
    b"sec-websocket-version": re.compile(rb"13"),
}
"""Headers of a WebSocket's handshake, each once (RFC 6455, section 4.2.1)."""

LINGER_SECONDS = 5.0
"""How long a closed connection waits for its client to read the answer."""


@dataclass(frozen=True)
class ConnectionLimits:
    """Limits of each proxy. A head is request line and headers; `connections` bounds the memory of all heads.

    `write_seconds` is the time in which a client reads what is in the write buffer, once that is full (64 KiB).
    """

    head_bytes: int = 32 * 2**10
    headers: int = 100
    head_seconds: float = 10.0
    write_seconds: float = 30.0
    connections: int = 1000


def install(count: Callable[[str, int], None], limits: ConnectionLimits | None = None) -> None:
    """Make `LimitedProtocol` what uvicorn takes by default; `count` receives label and status of each refusal."""
    protocol: Any = limited_protocol(count, limits)  # annotated as a name, but uvicorn takes what is not one as it is
    HTTP_PROTOCOLS["auto"] = protocol


def limited_protocol(
    count: Callable[[str, int], None], limits: ConnectionLimits | None = None
) -> Callable[..., "LimitedProtocol"]:
    """Return what makes the connections of one server: a value for uvicorn's `http`."""
    return partial(LimitedProtocol, limits or ConnectionLimits(), count, {})


class LimitedProtocol(HttpToolsProtocol):
    """A connection with `limits`.

    `waiting` are the connections of this server without a request, or whose client does not read, in their order.
    """

    def __init__(
        self,
        limits: ConnectionLimits,
        count: Callable[[str, int], None],
        waiting: dict["LimitedProtocol", None],
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._limits, self._count, self._waiting = limits, count, waiting
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._in_head = False
        self._head_bytes = self._header_count = 0
        self._unread_bytes = 0  # fed to the parser, which has reported nothing since
        self._refusal = "bad-request"

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Take a place; without one refuse the connection."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            longest = next(iter(self._waiting), None)
            if longest is None:
                self._refuse("unavailable")
                return
            del self._waiting[longest]
            longest.transport.abort()
        self._waiting[self] = None
        self._start_timer(self._limits.head_seconds, self._end_wait)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the place."""
        self._stop_write_timer()
        self._waiting.pop(self, None)
        self._stop_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait for the client to read; until then another connection may take this place."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self._limits.write_seconds, self.transport.abort)
        self._waiting[self] = None

    def resume_writing(self) -> None:
        """Go on with the answer."""
        super().resume_writing()
        self._stop_write_timer()
        if self._is_answering():
            self._waiting.pop(self, None)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, which calls the methods `on_…` below, and count what it keeps to itself."""
        if self._timer is None and self in self._waiting and not self._is_answering():
            self._start_timer(self._limits.head_seconds, self._end_wait)
        self._unread_bytes += len(data)
        super().data_received(data)
        if self._unread_bytes > self._limits.head_bytes and not self.transport.is_closing():
            self._refuse("large-headers")

    def on_message_begin(self) -> None:
        """Begin a head, unless too many requests wait. Raising ends the parser, which may hold thousands more."""
        if self._is_answering() and len(self.pipeline) >= PIPELINED:
            raise ValueError("pipelined requests above the limit")
        super().on_message_begin()
        self._in_head, self._head_bytes, self._header_count = True, 0, 0

    def on_url(self, url: bytes) -> None:
        """Count a piece of the address."""
        self._add_to_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header, or a trailer."""
        self._header_count += 1
        self._add_to_head(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin a request, or hand the connection over to a WebSocket."""
        if self._write_timer is None:
            self._waiting.pop(self, None)
        self._stop_timer()
        self._in_head, self._unread_bytes = False, 0
        super().on_headers_complete()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over, unless an answer is still being written to it or the handshake is not valid."""
        if self._is_answering() or self._write_timer is not None or not self._opens_websocket():
            self._refuse("bad-request")
        else:
            super().handle_websocket_upgrade()

    def on_chunk_header(self) -> None:
        """Note that the framing of a chunk was read."""
        self._unread_bytes = 0

    def on_body(self, body: bytes) -> None:
        """Pass a piece of the body on."""
        self._unread_bytes = 0
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Wait for the next request, unless one is pipelined or the connection ends."""
        pipelined = bool(self.pipeline)
        super().on_response_complete()
        if self.transport.is_closing():
            self._start_timer(LINGER_SECONDS, self.transport.abort)
        elif not pipelined:
            self._waiting[self] = None

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection, also if its client does not read the answer."""
        super().timeout_keep_alive_handler()
        self._start_timer(LINGER_SECONDS, self.transport.abort)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # uvicorn's own text
        """Refuse what the parser has rejected, in the form of all other errors."""
        self._refuse(self._refusal)

    def _add_to_head(self, size: int) -> None:
        """Raise, which the parser turns into its own error, if the head is too large."""
        self._head_bytes += size
        if self._head_bytes > self._limits.head_bytes or self._header_count > self._limits.headers:
            self._refusal = "large-headers"
            raise ValueError("headers above the limit")

    def _end_wait(self) -> None:
        if self._in_head:
            self._refuse("slow-headers")
        else:  # a browser opens connections in advance; an answer without a request would be shown
            self.transport.abort()

    def _refuse(self, reason: str) -> None:
        """Answer with a problem, unless another answer is under way, and close the connection."""
        if not self._is_answering():
            problem = Problem(reason)
            self._count(UNKNOWN_ROUTE, problem.status)
            body = problem.body(uuid.uuid4().hex)
            fields = {"Content-Type": MEDIA_TYPE, "Content-Length": len(body), **problem.headers, "Connection": "close"}
            lines = [f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}"]
            lines += [f"{name.lower()}: {value}" for name, value in fields.items()]
            self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        self.transport.close()
        self._waiting.pop(self, None)
        self._start_timer(LINGER_SECONDS, self.transport.abort)

    def _opens_websocket(self) -> bool:
        """Return True for a handshake of RFC 6455; uvicorn would answer others in plain text, uncounted."""
        given = {name: [value for other, value in self.scope["headers"] if other == name] for name in HANDSHAKE}
        return self.scope["method"] == "GET" and all(
            len(values) == 1 and HANDSHAKE[name].fullmatch(values[0].strip()) for name, values in given.items()
        )

    def _is_answering(self) -> bool:
        """Return True from the end of a head to the end of its answer, and while requests wait."""
        return self.cycle is not None and not self.cycle.response_complete

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
        self._write_timer = None

    def _start_timer(self, seconds: float, call: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, call)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

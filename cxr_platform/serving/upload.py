"""The files in a multipart body, read as it arrives, counted, timed, and kept in memory only.

Starlette's own form parser writes larger files to a temporary file; nothing of an image may reach a disk here. Between
Serve's processes bodies above 4 MB go through Ray's object store, which is in memory, and so is what it does not hold
as long as RAY_object_spilling_directory says so: `cxr serve` sets it, on a cluster whoever runs it (infra/serve).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cxr_platform.intake.images import sniff
from cxr_platform.serving.problems import Problem

PART = "file"
Receive = Callable[[], Awaitable[Any]]
"""ASGI's: each call gives the next message of the request."""


@dataclass(frozen=True)
class Limits:
    """What a request may be. 20 MB are 20 × 2²⁰ bytes."""

    body_bytes: int = 20 * 2**20
    upload_seconds: float = 30.0
    batch_files: int = 32


class Disconnected(Exception):
    """The client has gone; nobody is left to answer."""


async def body_of(receive: Receive, headers: Mapping[str, str], limits: Limits) -> AsyncIterator[bytes]:
    """The body, a piece at a time. Raises `Problem` (too-large, slow-upload, bad-request) and `Disconnected`.

    A Content-Length above the limit is refused before the body is read; without one, or with a false one, it ends at
    the first piece too many.
    """
    _check_length(headers.get("content-length"), limits)
    loop = asyncio.get_running_loop()
    ends, total, more = loop.time() + limits.upload_seconds, 0, True
    while more:
        try:
            message = await asyncio.wait_for(receive(), ends - loop.time())
        except asyncio.TimeoutError:
            raise Problem("slow-upload") from None
        if message["type"] == "http.disconnect":
            raise Disconnected
        piece, more = message.get("body", b""), message.get("more_body", False)
        total += len(piece)
        if total > limits.body_bytes:
            raise Problem("too-large")
        if piece:
            yield piece


async def files_of(receive: Receive, headers: Mapping[str, str], limits: Limits, most: int) -> list[bytes]:
    """The content of every part named `file` of a multipart/form-data body; at least one, at most `most`.

    Raises `Problem`: not-multipart, broken-multipart, no-file, too-many-files, and those of `body_of`. File names are
    never looked at.
    """
    parts = _Parts(_boundary(headers), most)
    async for piece in body_of(receive, headers, limits):
        parts.feed(piece)
    return parts.finished()


def check_content(data: bytes) -> None:
    """Raise `Problem` for a file that is empty or begins like none of PNG, JPEG and DICOM."""
    if not data:
        raise Problem("empty-file")
    if sniff(data) is None:
        raise Problem("not-an-image")


def _check_length(declared: str | None, limits: Limits) -> None:
    if declared is None:
        return
    if not (declared.isascii() and declared.isdigit()):
        raise Problem("bad-request")
    if int(declared[:20]) > limits.body_bytes:
        raise Problem("too-large")


def _boundary(headers: Mapping[str, str]) -> bytes:
    from python_multipart.multipart import parse_options_header

    kind, options = parse_options_header(headers.get("content-type", ""))
    boundary: bytes = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 0 < len(boundary) <= 200:
        raise Problem("not-multipart")
    return boundary


@dataclass
class _Parts:
    """Collects the parts of a multipart body as python-multipart tells of them."""

    boundary: bytes
    most: int
    files: list[bytearray] = field(default_factory=list)
    complete: bool = False

    def __post_init__(self) -> None:
        from python_multipart import MultipartParser

        callbacks = {
            name: getattr(self, f"_{name}")
            for name in (
                "part_begin",
                "header_field",
                "header_value",
                "header_end",
                "headers_finished",
                "part_data",
                "end",
            )
        }
        on: Any = {f"on_{name}": call for name, call in callbacks.items()}
        self._parser = MultipartParser(self.boundary, on)

    def feed(self, piece: bytes) -> None:
        from python_multipart.exceptions import FormParserError

        try:
            self._parser.write(piece)
        except FormParserError:
            raise Problem("broken-multipart") from None

    def finished(self) -> list[bytes]:
        if not self.complete:
            raise Problem("broken-multipart")
        if not self.files:
            raise Problem("no-file")
        return [bytes(file) for file in self.files]

    def _part_begin(self) -> None:
        self._headers: dict[bytes, bytes] = {}
        self._field, self._value = b"", b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field, self._value = b"", b""

    def _headers_finished(self) -> None:
        from python_multipart.multipart import parse_options_header

        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if options.get(b"name") != PART.encode():
            raise Problem("no-file")
        if len(self.files) == self.most:
            raise Problem("too-many-files")
        self.files.append(bytearray())

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self.files[-1] += memoryview(data)[start:end]

    def _end(self) -> None:
        self.complete = True

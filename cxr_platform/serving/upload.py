"""Read the files of a multipart body as it arrives: limited in size and time, and in memory only.

Starlette's form parser writes large files to a temporary file, but no image may reach a disk here. Between Serve's
processes a body above 4 MB goes through Ray's object store, which is in memory; what the store cannot hold stays in
memory too if RAY_object_spilling_directory is set as `cxr serve` and infra/serve do.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.types import Receive

from cxr_platform.intake.images import sniff
from cxr_platform.serving.problems import Problem, problem_for_content, problem_for_encodings

FIELD = "file"
"""Name of the form field that holds a file."""

MAX_BOUNDARY_BYTES = 200


@dataclass(frozen=True)
class Limits:
    """Limits of one request; 20 MB are 20 × 2²⁰ bytes."""

    body_bytes: int = 20 * 2**20
    upload_seconds: float = 30.0
    batch_files: int = 32


class Disconnected(Exception):
    """The client has closed the connection; no answer is needed."""


async def iter_body(receive: Receive, headers: Mapping[str, str], limits: Limits) -> AsyncIterator[bytes]:
    """Yield the pieces of a body.

    Raises `Problem` (encoded-body, too-large, slow-upload, bad-request) and `Disconnected`.
    A body with a Content-Encoding is refused before it is read.
    A Content-Length above the limit is refused before the body is read; without one, or with a false one, reading
    stops at the first piece above the limit.
    """
    codings = (coding.strip().lower() for coding in headers.get("content-encoding", "").split(","))
    if encodings := [coding for coding in codings if coding not in ("", "identity")]:
        raise problem_for_encodings(encodings)
    declared = headers.get("content-length")
    if declared is not None:
        if not (declared.isascii() and declared.isdigit()):
            raise Problem("bad-request")
        if int(declared[:20]) > limits.body_bytes:
            raise Problem("too-large")
    loop = asyncio.get_running_loop()
    deadline, total, more = loop.time() + limits.upload_seconds, 0, True
    while more:
        try:
            message = await asyncio.wait_for(receive(), deadline - loop.time())
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


async def read_files(receive: Receive, headers: Mapping[str, str], limits: Limits, max_files: int) -> list[bytes]:
    """Return the content of the form fields named `file`: at least one, at most `max_files`. File names are ignored.

    Raises `Problem` (not-multipart, broken-multipart, no-file, too-many-files) and what `iter_body` raises.
    """
    media_type, options = parse_options_header(headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if media_type != b"multipart/form-data" or not 0 < len(boundary) <= MAX_BOUNDARY_BYTES:
        raise Problem("not-multipart")
    form = _FileForm(boundary, max_files)
    async for piece in iter_body(receive, headers, limits):
        form.feed(piece)
    return form.files()


def check_content(data: bytes) -> None:
    """Raise `Problem` if a file is empty or does not start like a PNG, JPEG or DICOM file."""
    if not data:
        raise Problem("empty-file")
    if sniff(data) is None:
        raise problem_for_content(data)


class _FileForm:
    """Collects the file fields of a form through the callbacks of python-multipart."""

    def __init__(self, boundary: bytes, max_files: int) -> None:
        self._max_files = max_files
        self._files: list[bytearray] = []
        self._complete = False
        callbacks: Any = {
            "on_part_begin": self._begin_part,
            "on_header_field": self._add_to_name,
            "on_header_value": self._add_to_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._begin_file,
            "on_part_data": self._add_to_file,
            "on_end": self._end,
        }
        self._parser = MultipartParser(boundary, callbacks)

    def feed(self, piece: bytes) -> None:
        try:
            self._parser.write(piece)
        except FormParserError:
            raise Problem("broken-multipart") from None

    def files(self) -> list[bytes]:
        if not self._complete:
            raise Problem("broken-multipart")
        if not self._files:
            raise Problem("no-file")
        return [bytes(file) for file in self._files]

    def _begin_part(self) -> None:
        self._headers: dict[bytes, bytes] = {}
        self._name, self._value = b"", b""

    def _add_to_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _add_to_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name, self._value = b"", b""

    def _begin_file(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if options.get(b"name") != FIELD.encode():
            raise Problem("no-file")
        if len(self._files) == self._max_files:
            raise Problem("too-many-files")
        self._files.append(bytearray())

    def _add_to_file(self, data: bytes, start: int, end: int) -> None:
        self._files[-1] += memoryview(data)[start:end]

    def _end(self) -> None:
        self._complete = True

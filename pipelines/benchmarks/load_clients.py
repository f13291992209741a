"""Clients that keep a server busy: each sends its next request when the previous one is answered.

They use asyncio's streams: an HTTP library would take as much of two cores as the server does.
"""

import asyncio
import itertools
import json
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

BOUNDARY = "cxr-load-clients"
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
NOT_ANSWERED = 0
RETRIABLE = (NOT_ANSWERED, 429, 502, 503, 504)


@dataclass(frozen=True)
class Answer:
    """One request: when it was sent (seconds of `time.monotonic`), its duration, and its answer.

    `status` is `NOT_ANSWERED` if the connection ended without an answer; `version` is the model's, if stated.
    """

    client: int
    sent: float
    seconds: float
    status: int
    version: str | None = None


@dataclass(frozen=True)
class Load:
    """All answers of a run of `seconds`."""

    answers: Sequence[Answer]
    seconds: float

    @property
    def statuses(self) -> Counter[int]:
        """Number of answers by HTTP status."""
        return Counter(answer.status for answer in self.answers)

    @property
    def rate(self) -> float:
        """Images screened per second."""
        return self.statuses[200] / self.seconds

    def latency(self, percentile: float) -> float:
        """Return the seconds within which that percentage of the screened images were answered."""
        return float(np.percentile([a.seconds for a in self.answers if a.status == 200] or [np.nan], percentile))


def run_load(port: int, path: str, images: Sequence[bytes], *, clients: int, seconds: float, key: str = "") -> Load:
    """Send `images` over `clients` connections to loopback for `seconds`, at least one over each; return the answers.

    `images` are the contents of files.
    """
    return asyncio.run(load(port, path, images, clients=clients, seconds=seconds, key=key))


async def load(port: int, path: str, images: Sequence[bytes], *, clients: int, seconds: float, key: str = "") -> Load:
    """As `run_load`, in a running event loop."""
    requests = [upload_request(port, path, image, key) for image in images]
    started = time.monotonic()
    ends = started + seconds
    tasks = [
        _client(number, port, itertools.islice(itertools.cycle(requests), number % len(requests), None), ends)
        for number in range(clients)
    ]
    by_client = await asyncio.gather(*tasks)
    return Load([answer for answers in by_client for answer in answers], time.monotonic() - started)


def upload_request(port: int, path: str, image: bytes, key: str = "") -> bytes:
    """Return the bytes of a POST with one image in the part `file`."""
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="image"\r\n\r\n'
    body = part.encode() + image + f"\r\n--{BOUNDARY}--\r\n".encode()
    headers = [
        f"POST {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}",
        f"Content-Length: {len(body)}",
        *([f"Authorization: Bearer {key}"] if key else []),
    ]
    return "\r\n".join([*headers, "", ""]).encode() + body


async def _client(number: int, port: int, requests: Iterator[bytes], ends: float) -> list[Answer]:
    answers: list[Answer] = []
    connection = None
    while (sent := time.monotonic()) < ends or not answers:
        try:
            connection = connection or await asyncio.open_connection("127.0.0.1", port)
            status, body = await _ask(*connection, next(requests))
        except (OSError, asyncio.IncompleteReadError):
            if connection is not None:
                connection[1].close()
            connection, status, body = None, NOT_ANSWERED, b""
        answers.append(Answer(number, sent, time.monotonic() - sent, status, _version(status, body)))
        if status in RETRIABLE:
            await asyncio.sleep(0.2)
    if connection is not None:
        connection[1].close()
    return answers


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> tuple[int, bytes]:
    writer.write(request)
    await writer.drain()
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(STATUS.match(head)[1])  # type: ignore[index]
    if length := LENGTH.search(head):
        return status, await reader.readexactly(int(length[1]))
    return status, await _chunks(reader) if CHUNKED.search(head) else b""


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int((await reader.readline()).split(b";")[0], 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readline()
    return b"".join(parts)


def _version(status: int, body: bytes) -> str | None:
    if status != 200:
        return None
    version = json.loads(body).get("model", {}).get("version")
    return None if version is None else str(version)

"""Send requests to an ASGI application without a server, and read an answer from a socket."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable, Sequence
from http.client import HTTPResponse
from typing import Any

import httpx

BOUNDARY = "images"
CLOSED = [{"type": "websocket.close"}]
"""What a refused WebSocket is sent; uvicorn makes it 403."""

MULTIPART = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


def ask(app: Any, method: str, path: str, client: str = "127.0.0.1", **options: Any) -> httpx.Response:
    """Return the answer to one request, sent in its own event loop."""

    async def once() -> httpx.Response:
        transport = httpx.ASGITransport(app, client=(client, 50000))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            return await http.request(method, path, **options)

    return asyncio.run(once())


def websocket(app: Any, path: str) -> list[Any]:
    """Return what an application sends to a client that opens a WebSocket."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": path, "headers": [], "client": ("127.0.0.1", 50000), "scheme": "ws"}
    asyncio.run(app(scope, receive, send))
    return sent


def post(app: Any, data: bytes, path: str = "/v1/screen", **options: Any) -> httpx.Response:
    """Send an image like `curl -F file=@image`."""
    return ask(app, "POST", path, files={"file": ("image", data)}, **options)


def multipart(files: Sequence[bytes], name: str = "file") -> bytes:
    """Return the body of an upload."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="x"\r\n\r\n'.encode()
    return b"".join(head + file + b"\r\n" for file in files) + f"--{BOUNDARY}--\r\n".encode()


async def pieces(parts: Iterable[bytes], pause: float = 0.0) -> AsyncIterator[bytes]:
    """Yield a body in parts; httpx then sends no Content-Length."""
    for part in parts:
        await asyncio.sleep(pause)
        yield part


def reason(answer: httpx.Response) -> str:
    """Return the reason code of problem details."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    details = answer.json()
    assert {"type", "title", "status", "detail", "reason", "request_id"} == {*details}
    assert details["status"] == answer.status_code
    assert details["type"] == f"/problems/{details['reason']}"
    return str(details["reason"])


def raw_answer(connection: socket.socket) -> tuple[int, bytes]:
    """Return status and body of the answer that comes over a connection."""
    answer = HTTPResponse(connection)
    answer.begin()
    return answer.status, answer.read()

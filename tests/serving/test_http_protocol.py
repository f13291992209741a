"""The protocol in a uvicorn of its own, as in Serve's proxies: slow, endless and many headers on loopback."""

import asyncio
import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from typing import Any

import pytest
import uvicorn
from uvicorn import config as uvicorn_config

from cxr_platform.serving.http_protocol import ConnectionLimits, install, limited_protocol
from cxr_platform.serving.problems import PROBLEM_TYPES
from cxr_platform.serving.proxy_middleware import middlewares
from tests.conftest import REPOSITORY
from tests.serving.asgi_client import raw_answer
from tests.serving.others import Others, others
from tests.waiting import wait_until

SECONDS = 120
MEBIBYTE = 2**20
MOST_GROWTH = 64
"""MiB, of this process, in which the clients of a test are too."""

ENDLESS = 256
"""MiB, more than the buffers of the kernel hold."""

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\n"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the number of headers; read the body of everything but /unread, which is answered at once.

    /held is not answered, /large is answered with 24 MiB.
    """
    more = scope["path"] != "/unread"
    while more:
        message = await receive()
        more = message.get("more_body", False)
    while scope["path"] == "/held" and message["type"] != "http.disconnect":
        message = await receive()
    if scope["path"] == "/large":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(24):
            await send({"type": "http.response.body", "body": bytes(MEBIBYTE), "more_body": True})
        await send({"type": "http.response.body"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"%2d" % len(scope["headers"])})


class Running:
    """The port of a server and the statuses that it has counted."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.counted: list[int] = []
        protocol: Any = limited_protocol(lambda _, status: self.counted.append(status), limits)
        self.server = uvicorn.Server(uvicorn.Config(echo, port=0, http=protocol, lifespan="off", log_level="critical"))

    @property
    def port(self) -> int:
        return int(self.server.servers[0].sockets[0].getsockname()[1])

    @property
    def connections(self) -> list[Any]:
        return list(self.server.server_state.connections)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)


@contextmanager
def running(limits: ConnectionLimits | None = None) -> Iterator[Running]:
    made = Running(limits or ConnectionLimits())
    thread = threading.Thread(target=asyncio.run, args=(made.server.serve(),))
    thread.start()
    try:
        while not made.server.started:
            thread.join(0.01)
        yield made
    finally:
        made.server.should_exit = made.server.force_exit = True
        thread.join(SECONDS)


def ask(server: Running, head: bytes = GET) -> tuple[int, bytes]:
    """Return status and body of the answer to `head` on a connection of its own."""
    with server.connect() as connection:
        connection.sendall(head)
        return raw_answer(connection)


def closed(connection: socket.socket) -> bool:
    """Return True once the server has closed the connection."""
    with contextlib.suppress(ConnectionError):
        while connection.recv(65536):
            pass
    return True


@contextmanager
def attack(server: Running, name: str, capsys: pytest.CaptureFixture[str]) -> Iterator[Others]:
    """Send good requests while the block attacks; print what they and the memory of this process notice."""

    def good() -> None:
        assert ask(server) == (200, b" 1")

    with others(good, os.getpid()) as noticed:
        yield noticed
    with capsys.disabled():
        print(f"\n{name}: {noticed}")


def refused(server: Running, head: bytes) -> str:
    """Return the reason of the problem that answers `head`."""
    status, body = ask(server, head)
    assert server.counted[-1] == status
    return str(json.loads(body)["reason"])


def test_requests_within_the_limits_are_answered() -> None:
    with running() as server:
        assert ask(server) == (200, b" 1")
        assert ask(server, POST + b"X: y\r\n" * 90 + b"X: " + bytes([97]) * 30_000 + b"\r\n\r\n") == (200, b"92")
        body = b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 50_000 + b"0\r\nTrailer: x\r\n\r\n"
        assert ask(server, POST + body)[0] == 200, "framing of small chunks, longer than any head"
        assert server.counted == []


def test_a_connection_serves_several_requests_also_pipelined_ones() -> None:
    with running() as server, server.connect() as connection:
        for _ in range(2):
            connection.sendall(GET)
            assert raw_answer(connection) == (200, b" 1")
        connection.sendall(GET + GET)
        both = b""
        while both.count(b"200 OK") < 2:
            piece = connection.recv(65536)
            assert piece
            both += piece


def test_a_connection_that_sends_many_requests_in_advance_is_closed() -> None:
    """uvicorn would queue them all, 256 KiB of requests of 18 bytes in one call."""
    with running() as server, server.connect() as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"GET /held HTTP/1.1\r\n\r\n" * 20)
        assert closed(connection)
        assert ask(server) == (200, b" 1")


@pytest.mark.parametrize(
    "head",
    [
        GET[:-2] + b"X: y\r\n" * 100 + b"\r\n",
        GET[:-2] + b"X: " + b"y" * 40_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        GET[:-2] + b"x" * 40_000,
        b"\r\n" * 20_000,
    ],
    ids=["count", "value", "address", "unfinished name", "empty lines"],
)
def test_headers_above_the_limits_get_431(head: bytes) -> None:
    with running() as server:
        assert refused(server, head) == "large-headers"
        assert ask(server)[0] == 200


def test_an_answer_has_each_header_once() -> None:
    with running() as server, server.connect() as connection:
        connection.sendall(b"\r\n" * 20_000)
        answer = HTTPResponse(connection)
        answer.begin()
        names = [name for name, _ in answer.getheaders()]
        assert sorted(names) == ["connection", "content-length", "content-type"]


def test_documents_state_the_limits() -> None:
    limits = ConnectionLimits()
    size = f"{limits.head_bytes // 2**10} KiB"
    assert PROBLEM_TYPES["large-headers"].detail == f"Send at most {limits.headers} headers of {size} in total."
    for path in ("SECURITY.md", "docs/how-to/serving.md"):
        text = (REPOSITORY / path).read_text(encoding="utf-8")
        times = [f"{seconds:g} s" for seconds in (limits.head_seconds, limits.write_seconds)]
        for stated in (size, f"{limits.headers} lines", f"{limits.connections:,}", *times):
            assert stated in text, (path, stated)


def test_what_is_not_http_is_a_problem_too() -> None:
    with running() as server:
        assert refused(server, b"\x16\x03\x01\x02\x00\x01\x00") == "bad-request"


def test_endless_headers_and_trailers_take_no_memory(capsys: pytest.CaptureFixture[str]) -> None:
    endless = {"header": GET[:-2] + b"X: ", "trailer": POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: "}
    piece, sent = b"x" * MEBIBYTE, dict.fromkeys(endless, 0)
    with running() as server:
        assert ask(server)[0] == 200
        with attack(server, "Endless headers and trailers", capsys) as noticed:
            for name, head in endless.items():
                with server.connect() as connection, contextlib.suppress(ConnectionError):
                    connection.sendall(head)
                    while sent[name] < ENDLESS:
                        connection.sendall(piece)
                        sent[name] += 1
    with capsys.disabled():
        print(f"{sent} MiB taken from the client")
    assert max(sent.values()) < ENDLESS, "a connection takes what the buffers of the kernel hold, then it is closed"
    assert noticed.grown < ENDLESS / 2


def test_slow_headers_get_408_and_delay_no_other_request(capsys: pytest.CaptureFixture[str]) -> None:
    with running() as server:
        with attack(server, "Slow headers", capsys) as noticed:
            slow = []
            for number in range(10):
                slow.append(server.connect())
                slow[-1].sendall(GET[: 1 + number])
            for connection in slow:
                status, body = raw_answer(connection)
                assert (status, json.loads(body)["reason"]) == (408, "slow-headers")
                connection.close()
        assert server.counted == [408] * 10
    assert noticed.grown < MOST_GROWTH


def test_dripping_bytes_do_not_keep_a_connection_open(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither before the first request, nor between requests, nor with a body that is not read."""
    unread = b"POST /unread HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    kinds = ((b"", b"\r\n"), (GET, b"\r\n"), (GET, b"X"), (unread, b"1\r\nx\r\n"))
    with running() as server, attack(server, "52 dripping connections", capsys) as noticed:
        dripping = []
        for first, drip in kinds * 13:
            connection = server.connect()
            connection.sendall(first)
            if first:
                assert raw_answer(connection)[0] == 200
            dripping.append((connection, drip))
        for _ in range(3000):
            for connection, drip in list(dripping):
                try:
                    connection.sendall(drip)
                except ConnectionError:
                    connection.close()
                    dripping.remove((connection, drip))
            if not dripping:
                break
            threading.Event().wait(0.02)
        assert not dripping, "60 s, of which 10 s are allowed"
    assert noticed.grown < MOST_GROWTH


def test_the_deadline_of_headers_closes_an_idle_connection_and_none_with_a_request() -> None:
    with running() as server, server.connect() as connection:
        connection.sendall(POST + b"Content-Length: 4\r\n\r\n")
        with server.connect() as idle:
            assert closed(idle), "without an answer"
        assert server.counted == []
        connection.sendall(b"xxxx")
        assert raw_answer(connection)[0] == 200


def test_many_idle_connections_leave_room_for_a_request(capsys: pytest.CaptureFixture[str]) -> None:
    """Also for those that come meanwhile: fewer than the limit are opened during one request of others."""
    limits = ConnectionLimits(connections=20, head_seconds=10.0 * SECONDS)
    with running(limits) as server:
        idle: list[socket.socket] = []
        with attack(server, f"Idle connections, of {limits.connections} allowed", capsys) as noticed:
            for number in range(10 * limits.connections):
                idle.append(server.connect())
                idle[-1].sendall(GET[:3])
                if number % 10 == 9:
                    noticed.wait_for_another_answer()
        assert noticed.grown < MOST_GROWTH
        for _ in range(2 * limits.connections):
            idle.append(server.connect())
            idle[-1].sendall(GET[:3])
        assert ask(server)[0] == 200
        assert len(server.server.server_state.connections) <= limits.connections
        assert closed(idle[0]), "the oldest has given way"
        idle[-1].sendall(GET[3:])
        assert raw_answer(idle[-1])[0] == 200
        for connection in idle:
            connection.close()


def test_a_connection_above_the_limit_is_refused_while_all_others_have_a_request() -> None:
    limits = ConnectionLimits(connections=3)
    with running(limits) as server:
        busy = [server.connect() for _ in range(limits.connections)]
        for connection in busy:
            connection.sendall(POST + b"Content-Length: 1\r\nExpect: 100-continue\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 100")
        status, body = ask(server, b"")
        assert (status, json.loads(body)["reason"]) == (503, "unavailable")
        for connection in busy:
            connection.sendall(b"x")
            assert raw_answer(connection)[0] == 200
            connection.close()


def not_reading(server: Running) -> socket.socket:
    """Return a connection whose client asks for a large answer and reads its first byte only."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(SECONDS)
    connection.connect(("127.0.0.1", server.port))
    connection.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert connection.recv(1, socket.MSG_PEEK)
    return connection


def test_a_client_that_does_not_read_its_answer_is_disconnected() -> None:
    with running(ConnectionLimits(write_seconds=0.2)) as server, not_reading(server):
        wait_until(lambda: not server.connections)
        assert ask(server)[0] == 200


def test_clients_that_do_not_read_leave_room_for_a_request() -> None:
    limits = ConnectionLimits(connections=3)
    with running(limits) as server:
        silent = [not_reading(server) for _ in range(limits.connections)]
        wait_until(lambda: sum(each.flow.write_paused for each in server.connections) == limits.connections)
        assert ask(server)[0] == 200
        for connection in silent:
            connection.close()


def test_a_client_that_reads_late_but_in_time_gets_the_whole_answer() -> None:
    with running() as server, not_reading(server) as connection:
        wait_until(lambda: any(each.flow.write_paused for each in server.connections))
        status, body = raw_answer(connection)
        assert (status, len(body)) == (200, 24 * MEBIBYTE)


def test_serve_takes_it_for_its_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray Serve starts uvicorn with the protocol "auto" after it has called `middlewares`."""
    monkeypatch.setitem(uvicorn_config.HTTP_PROTOCOLS, "auto", uvicorn_config.HTTP_PROTOCOLS["auto"])
    monkeypatch.delenv("CXR_API_KEYS_FILE", raising=False)
    install(lambda *_: None, ConnectionLimits())
    first = uvicorn_config.HTTP_PROTOCOLS["auto"]
    middlewares()
    assert uvicorn_config.HTTP_PROTOCOLS["auto"] is not first
    config = uvicorn.Config(lambda: echo, factory=True, lifespan="off", log_config=None)
    config.load()
    assert config.http_protocol_class is uvicorn_config.HTTP_PROTOCOLS["auto"]


UPGRADE = b" / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
VERSION, WEBSOCKET_KEY = b"Sec-WebSocket-Version: 13\r\n", b"Sec-WebSocket-Key: " + b"A" * 22 + b"==\r\n"


@pytest.mark.parametrize(
    "head",
    [
        b"GET" + UPGRADE,
        b"GET" + UPGRADE + VERSION,
        b"GET" + UPGRADE + WEBSOCKET_KEY,
        b"GET" + UPGRADE + VERSION + b"Sec-WebSocket-Key: short\r\n",
        b"GET" + UPGRADE + VERSION + WEBSOCKET_KEY * 2,
        b"GET" + UPGRADE + VERSION.replace(b"13", b"8") + WEBSOCKET_KEY,
        b"POST" + UPGRADE + VERSION + WEBSOCKET_KEY,
    ],
)
def test_a_handshake_of_a_websocket_that_is_not_valid_gets_a_problem_and_is_counted(head: bytes) -> None:
    with running() as server:
        assert refused(server, head + b"\r\n") == "bad-request"


def test_a_valid_handshake_reaches_the_application() -> None:
    """Which does not accept it here."""
    with running() as server:
        status, _ = ask(server, b"GET" + UPGRADE + VERSION + WEBSOCKET_KEY + b"\r\n")
        assert (status, server.counted) == (500, [])

"""The user of a connection, over real sockets of this machine."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import uvicorn

from cxr_platform.serving.client_user import client_user
from cxr_platform.serving.proxy_middleware import ProxyMiddleware
from tests.serving.asgi_client import raw_answer
from tests.serving.fake_serve import FakeServe

OTHER_USER = 12345
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a socket to another user")


def scope_of(accepted: socket.socket) -> dict[str, Any]:
    """Return client and server of a connection as uvicorn states them."""
    return {"client": accepted.getpeername()[:2], "server": accepted.getsockname()[:2]}


@contextmanager
def connection(listen: str, connect: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield both ends of a connection: accepted by a server on `listen`, opened to `connect`."""
    families = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in (listen, connect)]
    with ExitStack() as stack:
        try:
            server = stack.enter_context(socket.socket(families[0]))
            if listen == "::":
                server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            server.bind((listen, 0))
        except OSError as error:
            pytest.skip(f"no server on {listen}: {error}")
        server.listen()
        client = stack.enter_context(socket.socket(families[1]))
        client.connect((connect, server.getsockname()[1]))
        yield stack.enter_context(server.accept()[0]), client


@pytest.mark.parametrize(
    ("listen", "connect"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "::ffff:127.0.0.1"),
        ("::1", "::1"),
        ("::", "127.0.0.1"),
        ("::", "::1"),
    ],
)
def test_a_program_of_this_user_is_recognised_over_each_family(listen: str, connect: str) -> None:
    with connection(listen, connect) as (accepted, _):
        assert client_user(scope_of(accepted)) == os.geteuid()


@AS_ROOT
def test_a_program_of_another_user_is_recognised() -> None:
    with connection("127.0.0.1", "127.0.0.1") as (accepted, client):
        os.fchown(client.fileno(), OTHER_USER, -1)
        assert client_user(scope_of(accepted)) == OTHER_USER


@pytest.mark.parametrize("user", [None, pytest.param(OTHER_USER, marks=AS_ROOT)])
def test_a_server_without_keys_answers_its_own_user_alone(user: int | None) -> None:
    """With uvicorn and the middleware as in Serve's proxy, and what nginx sends by default."""
    with uvicorn_server(ProxyMiddleware(FakeServe())) as port, socket.socket() as client:
        if user is not None:
            os.fchown(client.fileno(), user, -1)
        client.settimeout(120)
        client.connect(("127.0.0.1", port))
        for _ in range(2):
            client.sendall(f"GET /v1/model HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            status, body = raw_answer(client)
            assert status == (200 if user is None else 403)
            assert user is None or json.loads(body)["reason"] == "other-user"


@contextmanager
def uvicorn_server(app: Any) -> Iterator[int]:
    """Run `app` in uvicorn on loopback, and yield its port."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, timeout_keep_alive=120, lifespan="off", log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            thread.join(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)


def test_a_client_that_waits_for_its_answer_after_its_last_byte_is_recognised() -> None:
    with connection("127.0.0.1", "127.0.0.1") as (accepted, client):
        client.shutdown(socket.SHUT_WR)
        assert client_user(scope_of(accepted)) == os.geteuid()


def test_a_closed_connection_has_no_user() -> None:
    """The kernel would answer root: of a closed socket it knows no more."""
    with connection("127.0.0.1", "127.0.0.1") as (accepted, client):
        scope = scope_of(accepted)
        client.close()
        assert client_user(scope) is None


@pytest.mark.parametrize(
    "scope",
    [
        {},
        {"client": None, "server": None},
        {"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2)},
        {"client": ("203.0.113.7", 50000), "server": ("192.0.2.1", 8000)},
        {"client": ("127.0.0.1", 50000), "server": ("::1", 8000)},
        {"client": ("127.0.0.1", 50000), "server": ("/run/server.sock", None)},
        {"client": ("localhost", 50000), "server": ("localhost", 8000)},
        {"client": ("127.0.0.1", 500000), "server": ("127.0.0.1", 8000)},
        {"client": ("fe80::1%eth0", 50000), "server": ("fe80::2%eth0", 8000)},
    ],
)
def test_what_is_no_connection_of_this_machine_has_no_user(scope: dict[str, Any]) -> None:
    assert client_user(scope) is None

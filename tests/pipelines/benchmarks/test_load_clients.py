import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipelines.benchmarks.load_clients import NOT_ANSWERED, run_load

IMAGE = b"the bytes of an image"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet an answer: otherwise delayed acknowledgements set the pace
    plan: dict[str, int] = {}  # noqa: RUF012
    received: list[bytes] = []  # noqa: RUF012

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append(body)
        if self.path == "/cut":
            self.close_connection = True
            return
        answer = json.dumps({"model": {"version": "v3"}}).encode()
        self.send_response(self.plan.get(self.path, 200))
        if self.path == "/chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(answer), answer))
        else:
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    Handler.plan, Handler.received = {"/busy": 429}, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("path", ["/v1/screen", "/chunked"])
def test_every_answer_has_the_version_of_the_model(port: int, path: str) -> None:
    load = run_load(port, path, [IMAGE, b"another"], clients=3, seconds=0.3)
    assert set(load.statuses) == {200}
    assert {answer.client for answer in load.answers} == {0, 1, 2}
    assert {answer.version for answer in load.answers} == {"v3"}
    assert len(Handler.received) == len(load.answers)
    assert any(IMAGE in body for body in Handler.received)
    assert load.rate == pytest.approx(len(load.answers) / load.seconds)
    assert 0 < load.latency(50) <= load.latency(99)


def test_refusals_and_broken_connections_are_counted(port: int) -> None:
    assert set(run_load(port, "/busy", [IMAGE], clients=2, seconds=0.3).statuses) == {429}
    assert set(run_load(port, "/cut", [IMAGE], clients=2, seconds=0.3).statuses) == {NOT_ANSWERED}


def test_each_client_sends_a_request_however_short_the_time_is(port: int) -> None:
    load = run_load(port, "/v1/screen", [IMAGE], clients=3, seconds=0)
    assert [answer.client for answer in load.answers] == [0, 1, 2]


def test_a_closed_port_gives_no_answer() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    port = server.server_address[1]
    server.server_close()
    assert set(run_load(port, "/v1/screen", [IMAGE], clients=1, seconds=0.3).statuses) == {NOT_ANSWERED}

"""A server on loopback that answers from a list."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar


class PlannedHandler(BaseHTTPRequestHandler):
    """Answers the entries of `plan` in order, and then the last one again and again.

    `last_headers` are those of the last request.
    """

    plan: ClassVar[list[tuple[int, dict[str, str], bytes]]] = []
    requests: ClassVar[int] = 0
    last_headers: ClassVar[Message]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        status, headers, body = self.plan[min(PlannedHandler.requests, len(self.plan) - 1)]
        PlannedHandler.requests += 1
        PlannedHandler.last_headers = self.headers
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def planned_server(*plan: tuple[int, dict[str, str], bytes]) -> Iterator[str]:
    PlannedHandler.plan, PlannedHandler.requests = list(plan), 0
    made = ThreadingHTTPServer(("127.0.0.1", 0), PlannedHandler)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{made.server_address[1]}"
    finally:
        made.shutdown()
        made.server_close()
        thread.join()

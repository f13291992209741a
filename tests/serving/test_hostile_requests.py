"""A thousand hostile requests get 2xx or 4xx, memory stays flat, and valid requests are answered correctly."""

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from statistics import median

import pytest

from cxr_platform.serving.client import local_screen
from cxr_platform.serving.screener import Screener
from tests.conftest import REPOSITORY
from tests.intake.files import dicom, many_elements
from tests.serving.asgi_client import MULTIPART, multipart
from tests.serving.builders import image, image_png, registry_with_champion
from tests.serving.hostile_requests import Hostile, hostile

REQUESTS = 1000
WARM = 200
MEBIBYTE = 2**20
SECONDS = 30


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return registry_with_champion(tmp_path_factory.mktemp("hostile") / "registry").root


@contextmanager
def served(registry: Path) -> Iterator[tuple[int, int]]:
    command = [sys.executable, "-m", "tests.serving.uvicorn_process", str(registry)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline()), process.pid
        finally:
            process.kill()


def resident(process: int) -> float:
    """Memory of the process in MiB."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def ask(port: int, request: Hostile) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.putrequest("POST", request.path)
        for name, value in request.headers:
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(request.body) if request.length is None else request.length))
        connection.endheaders()
        connection.send(request.body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def png_seconds(port: int, until: Callable[[], bool]) -> tuple[float, int]:
    """Return the median time of valid PNG images, ten or more until `until` is true, and their number."""
    seconds = []
    while len(seconds) < 10 or (until() and len(seconds) < 1000):
        began = time.perf_counter()
        probabilities_of_valid_image(port)
        seconds.append(time.perf_counter() - began)
    return median(seconds), len(seconds)


def during_flood(port: int) -> tuple[float, Counter[int]]:
    """Return the median time of PNG images while eight clients send hostile DICOM files, and the answers to those."""
    body = multipart([many_elements(dicom(image(0)), 3 * MEBIBYTE)])
    with ThreadPoolExecutor(8) as clients:
        sent = [clients.submit(ask, port, Hostile("many elements", body)) for _ in range(40)]
        seconds, _ = png_seconds(port, until=lambda: not all(each.done() for each in sent))
        return seconds, Counter(each.result()[0] for each in sent)


def probabilities_of_valid_image(port: int) -> dict[str, float]:
    status, body = ask(port, Hostile("none", multipart([image_png()])))
    assert status == 200
    probabilities: dict[str, float] = json.loads(body)["probabilities"]
    return probabilities


@pytest.mark.filterwarnings("ignore:Invalid value for VR:UserWarning:pydicom")  # hostile on purpose
def test_a_thousand_hostile_requests(registry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from cxr_platform.registry.store import Registry

    expected = local_screen(Screener(*Registry(registry).open(), threads=1))(image_png()).probabilities
    statuses: Counter[int] = Counter()
    with served(registry) as (port, process):
        ask(port, Hostile("none", multipart([dicom(image(0))])))  # starts the process that decodes DICOM
        for number, request in enumerate(hostile(REQUESTS, seed=7)):
            if number == WARM:
                before = resident(process)
            status, body = ask(port, request)
            assert 200 <= status < 300 or 400 <= status < 500, (request.kind, status, body)
            assert status < 300 or json.loads(body)["reason"], request.kind
            statuses[status] += 1
            if number % 100 == 99:
                assert probabilities_of_valid_image(port) == pytest.approx(expected, abs=1e-4)
        grown = resident(process) - before
        idle, _ = png_seconds(port, until=lambda: False)
        flooded, refusals = during_flood(port)
        assert {*refusals} <= {422, 429}
    with capsys.disabled():
        print(f"\n{REQUESTS} hostile requests: {dict(sorted(statuses.items()))}, memory {grown:+.0f} MiB")
        print(
            f"PNG: {1000 * idle:.0f} ms; during a flood of {refusals.total()} DICOM files with 400,000 elements each: ",
            end="",
        )
        print(f"{1000 * flooded:.0f} ms (medians), {dict(refusals)}")
    assert statuses.total() == REQUESTS
    assert grown < 150


def test_a_body_above_the_limit_is_stopped_while_it_arrives(registry: Path) -> None:
    with served(registry) as (port, process):
        probabilities_of_valid_image(port)
        before = resident(process)
        with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
            kind = MULTIPART["content-type"]
            head = f"POST /v1/screen HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
            head += "Transfer-Encoding: chunked\r\n\r\n"
            connection.sendall(head.encode())
            piece = b"%x\r\n%s\r\n" % (MEBIBYTE, bytes(MEBIBYTE))
            sent = 0
            with contextlib.suppress(OSError):  # the server closes the connection
                connection.sendall(b"%x\r\n%s\r\n" % (len(part := multipart([b""])[:80]), part))
                while sent < 200:
                    connection.sendall(piece)
                    sent += 1
            assert sent < 60
        assert resident(process) - before < 100
        assert probabilities_of_valid_image(port)


def test_slow_uploads_are_stopped_and_delay_no_other_request(registry: Path) -> None:
    with served(registry) as (port, _):
        slow = [socket.create_connection(("127.0.0.1", port), timeout=SECONDS) for _ in range(20)]
        for connection in slow:
            kind = MULTIPART["content-type"]
            head = (
                f"POST /v1/screen HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: 5000\r\n\r\n--"
            )
            connection.sendall(head.encode())
        assert probabilities_of_valid_image(port)
        assert {connection.recv(12) for connection in slow} == {b"HTTP/1.1 408"}
        for connection in slow:
            connection.close()

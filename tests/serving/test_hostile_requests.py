"""A thousand hostile requests get 2xx or 4xx, memory stays flat, and valid requests are answered correctly."""

import contextlib
import json
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from itertools import islice
from pathlib import Path
from statistics import median

import pytest

from cxr_platform.serving.client import local_screen
from cxr_platform.serving.screener import Screener
from tests.conftest import REPOSITORY
from tests.intake.files import dicom, jpeg, many_elements
from tests.serving.asgi_client import MULTIPART, multipart
from tests.serving.builders import image, image_png, registry_with_champion
from tests.serving.hostile_requests import Hostile, hostile
from tests.serving.others import Others, others, with_children

REQUESTS = 1000
WARM = 200
FLOOD = 40
MEBIBYTE = 2**20
SECONDS = 120.0
"""Longer than any answer takes on a busy machine."""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return registry_with_champion(tmp_path_factory.mktemp("hostile") / "registry").root


@contextmanager
def served(registry: Path, upload_seconds: float = SECONDS) -> Iterator[tuple[int, int]]:
    command = [sys.executable, "-m", "tests.serving.uvicorn_process", str(registry), str(upload_seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline()), process.pid
        finally:
            process.kill()


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


def probabilities_of_valid_image(port: int, file: bytes | None = None) -> dict[str, float]:
    status, body = ask(port, Hostile("none", multipart([file or image_png()])))
    assert status == 200
    probabilities: dict[str, float] = json.loads(body)["probabilities"]
    return probabilities


@pytest.mark.filterwarnings("ignore:Invalid value for VR:UserWarning:pydicom")  # hostile on purpose
def test_a_thousand_hostile_requests(registry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from cxr_platform.registry.store import Registry

    screen = local_screen(Screener(*Registry(registry).open(), threads=1))
    expected = screen(image_png()).probabilities
    statuses: Counter[int] = Counter()

    def send(port: int, requests: Iterable[Hostile]) -> None:
        for request in requests:
            status, body = ask(port, request)
            assert 200 <= status < 300 or 400 <= status < 500, (request.kind, status, body)
            assert status < 300 or json.loads(body)["reason"], request.kind
            statuses[status] += 1

    with served(registry) as (port, process):

        def good() -> None:
            assert probabilities_of_valid_image(port) == pytest.approx(expected, abs=1e-4)

        ask(port, Hostile("none", multipart([dicom(image(0))])))  # starts the process that decodes DICOM
        requests = hostile(REQUESTS, seed=7)
        send(port, islice(requests, WARM))
        with others(good, process, pause=0.1) as noticed:
            send(port, requests)
    with capsys.disabled():
        print(f"\n{REQUESTS} hostile requests: {dict(sorted(statuses.items()))}; after {WARM}: {noticed}")
    assert statuses.total() == REQUESTS
    assert noticed.grown < 150


def test_a_flood_of_hostile_dicom_leaves_png_and_jpeg_alone(registry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Eight clients send DICOM files with 400,000 elements each; the medians depend on the machine and are printed."""
    body = multipart([many_elements(dicom(image(0)), 3 * MEBIBYTE)])
    with served(registry) as (port, process):

        def good(file: bytes) -> Callable[[], object]:
            return lambda: probabilities_of_valid_image(port, file)

        def undisturbed(file: bytes) -> Others:
            with others(good(file), process, pause=0) as noticed:
                pass
            return noticed

        files = {"PNG": image_png(), "JPEG": jpeg(image(0))}
        ask(port, Hostile("none", multipart([dicom(image(0))])))  # starts the process that decodes DICOM
        before = {name: undisturbed(file) for name, file in files.items()}
        memory, answers = [with_children(process)], Counter[int]()
        for _ in range(2):
            with ExitStack() as stack, ThreadPoolExecutor(8) as clients:
                during = {name: stack.enter_context(others(good(file), process)) for name, file in files.items()}
                answers.update(clients.map(lambda _: ask(port, Hostile("many elements", body))[0], range(FLOOD)))
            memory.append(with_children(process))
    with capsys.disabled():
        megabytes = " MiB, ".join(f"{each:.0f}" for each in memory)
        print(f"\nTwo floods of {FLOOD} DICOM files: {dict(answers)}; memory, before and after each: {megabytes} MiB")
        for name in files:
            print(f"{name}: {1000 * median(before[name].seconds):.1f} ms before; during the flood {during[name]}")
    assert {*answers} <= {422, 429, 503}
    assert answers[429] + answers[503], "its queue was full"
    assert memory[1] - memory[0] < 400, "what eight bodies at a time and one DICOM header take"
    assert memory[2] - memory[1] < 150, "another flood takes the same memory again"


def test_a_body_above_the_limit_is_stopped_while_it_arrives(registry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kind = MULTIPART["content-type"]
    head = f"POST /v1/screen HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
    part, sent = multipart([b""])[:80], 0
    piece = b"%x\r\n%s\r\n" % (MEBIBYTE, bytes(MEBIBYTE))
    with served(registry) as (port, process):
        probabilities_of_valid_image(port)
        with (
            others(lambda: probabilities_of_valid_image(port), process) as noticed,
            socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection,
        ):
            connection.sendall(head.encode())
            with contextlib.suppress(OSError):  # the server closes the connection
                connection.sendall(b"%x\r\n%s\r\n" % (len(part), part))
                while sent < 200:
                    connection.sendall(piece)
                    sent += 1
    with capsys.disabled():
        print(f"\nEndless body: {sent} MiB taken from the client; {noticed}")
    assert sent < 60
    assert noticed.grown < 100


def test_slow_uploads_are_stopped_and_delay_no_other_request(
    registry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = MULTIPART["content-type"]
    head = f"POST /v1/screen HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: 5000\r\n\r\n--"
    with served(registry, upload_seconds=5.0) as (port, process):
        probabilities_of_valid_image(port)
        with others(lambda: probabilities_of_valid_image(port), process) as noticed:
            slow = [socket.create_connection(("127.0.0.1", port), timeout=SECONDS) for _ in range(20)]
            for connection in slow:
                connection.sendall(head.encode())
            assert {connection.recv(12) for connection in slow} == {b"HTTP/1.1 408"}
            for connection in slow:
                connection.close()
    with capsys.disabled():
        print(f"\n{len(slow)} slow uploads: {noticed}")
    assert noticed.grown < 100

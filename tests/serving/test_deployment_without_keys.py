"""A server without keys on Ray Serve: its proxy and its replicas both answer the programs of its own user alone."""

import json
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from tests.serving.asgi_client import raw_answer
from tests.serving.builders import image_png, registry_with_champion
from tests.serving.serve_process import press_ctrl_c, served

OTHER_USER = 12345
GENEROUS_SECONDS = 15.0
"""For an end within 5 s (`stopping.END_SECONDS`) on a busy machine."""

TROUBLE = re.compile(r"error|traceback|warn|fail|\(raylet|\(pid=|\(\w+ pid=", re.IGNORECASE)
TIMEOUT_SECONDS = 60.0


class Server(NamedTuple):
    """Port, process id and log of `cxr serve`."""

    port: int
    pid: int
    log: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    registry = registry_with_champion(folder / "registry")
    with served(registry.root, folder, "--no-explain", with_key=False) as (port, pid):
        yield Server(port, pid, folder / "log")


@pytest.mark.ray
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_program_of_the_user_of_the_server_is_answered(server: Server, host: str) -> None:
    """Images alone, and several that the proxy sends to a replica in one call."""
    with httpx.Client(base_url=f"http://{host}:{server.port}", timeout=TIMEOUT_SECONDS) as client:
        for path in ("/", "/docs", "/readyz", "/v1/model"):
            assert client.get(path).status_code == 200, path
        image = ("image.png", image_png())
        assert client.post("/v1/screen", files={"file": image}).json()["decision"]
        assert len(client.post("/v1/screen/batch", files=[("file", image)] * 2).json()["items"]) == 2


@pytest.mark.ray
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a socket to another user")
def test_a_program_of_another_user_is_not_answered(server: Server) -> None:
    """As nginx sends it by default: HTTP/1.1, the name of this machine, and no header of proxies."""
    with socket.socket() as client:
        os.fchown(client.fileno(), OTHER_USER, -1)
        client.settimeout(TIMEOUT_SECONDS)
        client.connect(("127.0.0.1", server.port))
        for path in ("/", "/v1/model", "/-/routes"):
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode())
            status, body = raw_answer(client)
            assert (status, json.loads(body)["reason"]) == (403, "other-user")


@pytest.mark.ray
@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"host": "evil.example"}, "wrong-host"),
        ({"host": "evil.example:{port}", "origin": "http://evil.example:{port}"}, "wrong-host"),
        ({"origin": "https://evil.example"}, "cross-site"),
        ({"origin": "http://127.0.0.1.evil.example:{port}"}, "cross-site"),
        ({"sec-fetch-site": "cross-site"}, "cross-site"),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"}, "cross-site"),
    ],
    ids=["DNS rebinding", "its page", "form", "similar name", "no origin", "another port"],
)
def test_another_website_in_the_users_browser_is_not_answered(
    server: Server, headers: dict[str, str], reason: str
) -> None:
    """Neither for an image nor for a page, while our own page is."""
    image = {"file": ("image.png", image_png())}
    address = f"http://127.0.0.1:{server.port}"
    sent = {name: value.format(port=server.port) for name, value in headers.items()}
    with httpx.Client(base_url=address, timeout=TIMEOUT_SECONDS) as client:
        refused = [client.post("/v1/screen", files=image, headers=sent)]
        refused += [client.get(path, headers=sent) for path in ("/", "/v1/model", "/-/routes")]
        assert [(answer.status_code, answer.json()["reason"]) for answer in refused] == [(403, reason)] * len(refused)
        own = {"origin": address, "sec-fetch-site": "same-origin"}
        assert client.post("/v1/screen", files=image, headers=own).json()["decision"]


@pytest.mark.ray
def test_ctrl_c_ends_the_server_without_error_lines_of_ray(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """Comes last here, as it ends the server of the tests above. `served` expects the exit code 0."""
    seconds = press_ctrl_c(server.pid)
    _, said, rest = server.log.read_text().partition("Stopping after the requests under way are answered.\n")
    with capsys.disabled():
        print(f"\nCtrl-C: ended after {seconds:.1f} s, and then said {rest!r}")
    assert said
    assert not TROUBLE.search(rest), rest
    assert seconds < GENEROUS_SECONDS

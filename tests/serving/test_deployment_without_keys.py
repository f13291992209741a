"""A server without keys on Ray Serve: its proxy and its replicas both answer the programs of its own user alone."""

import json
import os
import socket
from collections.abc import Iterator

import httpx
import pytest

from tests.serving.asgi_client import raw_answer
from tests.serving.builders import image_png, registry_with_champion
from tests.serving.serve_process import served

OTHER_USER = 12345
TIMEOUT_SECONDS = 60.0


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("server")
    registry = registry_with_champion(folder / "registry")
    with served(registry.root, folder, "--no-explain", with_key=False) as (port, _):
        yield port


@pytest.mark.ray
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_program_of_the_user_of_the_server_is_answered(port: int, host: str) -> None:
    """Images alone, and several that the proxy sends to a replica in one call."""
    with httpx.Client(base_url=f"http://{host}:{port}", timeout=TIMEOUT_SECONDS) as client:
        for path in ("/", "/docs", "/readyz", "/v1/model"):
            assert client.get(path).status_code == 200, path
        image = ("image.png", image_png())
        assert client.post("/v1/screen", files={"file": image}).json()["decision"]
        assert len(client.post("/v1/screen/batch", files=[("file", image)] * 2).json()["items"]) == 2


@pytest.mark.ray
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a socket to another user")
def test_a_program_of_another_user_is_not_answered(port: int) -> None:
    """As nginx sends it by default: HTTP/1.1, the name of this machine, and no header of proxies."""
    with socket.socket() as client:
        os.fchown(client.fileno(), OTHER_USER, -1)
        client.settimeout(TIMEOUT_SECONDS)
        client.connect(("127.0.0.1", port))
        for path in ("/", "/v1/model", "/-/routes"):
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            status, body = raw_answer(client)
            assert (status, json.loads(body)["reason"]) == (403, "other-user")

import json
import os
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cxr_platform.errors import ServingError
from pipelines.benchmarks import screening_servers
from pipelines.benchmarks.screening_servers import SAME_VERSIONS, no_http, peer_versions, running_server
from tests.serving.builders import image_png, registry_with_champion

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[-1])), Handler).serve_forever()
"""


def test_a_server_is_ready_and_ends_with_the_block() -> None:
    with running_server([sys.executable, "-c", SERVER]) as port:
        address = f"http://127.0.0.1:{port}/"
        with urllib.request.urlopen(address, timeout=30) as answer:
            assert answer.status == 200
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(address, timeout=30)


def test_a_server_that_ends_before_it_is_ready_is_an_error() -> None:
    command = [sys.executable, "-c", "raise SystemExit(3)"]
    with pytest.raises(ServingError, match=r"ready on port .* Received: exit code 3"), running_server(command):
        pass


def test_images_are_screened_without_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setattr(screening_servers, "ProcessPoolExecutor", ThreadPoolExecutor)  # the same functions
    folder, _ = registry_with_champion(tmp_path / "registry").open()
    with no_http(folder, [image_png()]) as screen:
        for seconds in (0.5, 0):
            screened = screen(seconds)
            assert min(screened.rate, screened.decode_ms, screened.network_ms) > 0


def test_peers_decode_and_infer_with_the_versions_of_this_server(tmp_path: Path) -> None:
    same = {name: screening_servers.version(name) for name in SAME_VERSIONS}
    others = {"bentoml": "1.4", "litserve": "0.2", **dict.fromkeys(screening_servers.FURTHER_PACKAGES, "1")}

    def python(versions: dict[str, str]) -> Path:
        script = tmp_path / "python"
        script.write_text(f"#!/bin/sh\necho '{json.dumps(versions)}'\n", encoding="utf-8")
        script.chmod(0o755)
        return script

    assert peer_versions(python({**same, **others})) == {"bentoml": "1.4", "litserve": "0.2"}
    with pytest.raises(ServingError, match=r"Received: numpy 0\.1\. Run: .*python -m pip install .*numpy==\d"):
        peer_versions(python({**same, **others, "numpy": "0.1"}))
    with pytest.raises(ServingError, match=r"Received: litserve missing\."):
        peer_versions(python({name: v for name, v in {**same, **others}.items() if name != "litserve"}))


def test_an_interpreter_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="Expected a Python interpreter"):
        peer_versions(tmp_path / "none")
    assert (
        "bentoml"
        not in subprocess.run(
            [sys.executable, "-c", screening_servers.VERSIONS_CODE, "bentoml", "numpy"],
            stdout=subprocess.PIPE,
            check=True,
        ).stdout.decode()
    )

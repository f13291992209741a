"""The application deployed before its registry exists, with another application, on a head without processors."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from cxr_platform.registry.promotion import promote
from cxr_platform.registry.store import Registry
from tests.conftest import REPOSITORY
from tests.ports import free_port
from tests.serving.builders import filler, image_png
from tests.serving.deployed_apps import REPLICAS
from tests.serving.serve_process import KEY, START_SECONDS, STOP_SECONDS, get, post
from tests.waiting import wait_until

DEPLOYED = "Deployed "
eventually = partial(wait_until, seconds=300.0, pause=0.2)


class Server:
    """Address, registry and key file of the server; `on_head` says per deployment whether replicas run on the head."""

    def __init__(self, address: str, folder: Path, on_head: dict[str, list[bool]]) -> None:
        self.address, self.on_head = address, on_head
        self.registry, self.keys = Registry(folder / "registry"), folder / "keys"

    def screened(self, key: str = KEY) -> httpx.Response:
        headers = {"x-api-key": key}
        return post(f"{self.address}/v1/screen", files={"file": image_png()}, headers=headers)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder, port = tmp_path_factory.mktemp("deployed"), free_port()
    (folder / "keys").write_text(KEY, encoding="utf-8")
    command = [sys.executable, "-m", "tests.serving.deployed_apps", str(folder / "registry"), str(port)]
    environment = {"CXR_API_KEYS_FILE": str(folder / "keys"), "PYTHONWARNINGS": "ignore"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
        )
    try:
        deadline, deployed = time.monotonic() + START_SECONDS, list[str]()
        while not deployed:
            text = (folder / "log").read_text()
            assert process.poll() is None, text
            assert time.monotonic() < deadline, text
            deployed = [line.removeprefix(DEPLOYED) for line in text.splitlines() if line.startswith(DEPLOYED)]
            time.sleep(0.2)
        yield Server(f"http://127.0.0.1:{port}", folder, json.loads(deployed[0]))
        process.communicate(timeout=STOP_SECONDS)
    finally:
        process.kill()


@pytest.mark.ray
def test_no_replica_runs_on_a_head_without_processors(
    server: Server,
) -> None:
    assert server.on_head == {"Screening": [False] * REPLICAS, "Explainer": [False]}


@pytest.mark.ray
def test_without_a_registry_replicas_wait_for_the_first_promotion(server: Server) -> None:
    assert get(f"{server.address}/healthz").status_code == 200
    ready, answer = get(f"{server.address}/readyz"), server.screened()
    assert (ready.status_code, ready.json()["reason"]) == (503, "no-registry")
    assert (answer.status_code, answer.json()["reason"], answer.headers["retry-after"]) == (503, "no-registry", "1")
    server.registry.add(filler())
    eventually(lambda: get(f"{server.address}/readyz").json().get("reason") == "no-champion")
    promote(server.registry, "v1", lead_seconds=0)
    eventually(lambda: all(get(f"{server.address}/readyz").status_code == 200 for _ in range(10)))
    answers: list[httpx.Response] = []

    def all_answer() -> bool:
        # Requests may all have reached one replica until now, while the other one has no model yet.
        answers[:] = [server.screened() for _ in range(10)]
        return {answer.status_code for answer in answers} == {200}

    eventually(all_answer)
    assert {answer.json()["model"]["version"] for answer in answers} == {"v1"}


@pytest.mark.ray
def test_another_application_has_its_own_limits_and_keys(server: Server) -> None:
    body = bytes(21 * 2**20)
    answer = post(f"{server.address}/theirs/upload", content=body)
    assert (answer.status_code, answer.text) == (200, str(len(body)))
    unknown = post(f"{server.address}/nothing", content=b"x", headers={"x-api-key": KEY})
    assert (unknown.status_code, unknown.json()["reason"]) == (404, "not-found")
    assert post(f"{server.address}/nothing", content=b"x").status_code == 401


@pytest.mark.ray
def test_a_removed_key_is_rejected_by_proxy_and_replicas(server: Server) -> None:
    """The proxy forwards GET requests without a key, so there the replicas decide."""
    other = KEY[::-1]
    server.keys.write_text(other, encoding="utf-8")

    def statuses(key: str) -> set[int]:
        model = [get(f"{server.address}/v1/model", headers={"x-api-key": key}) for _ in range(10)]
        return {answer.status_code for answer in [*model, server.screened(key)]}

    eventually(lambda: statuses(KEY) == {401} and 401 not in statuses(other))
    server.keys.write_text(KEY, encoding="utf-8")
    eventually(lambda: 401 not in statuses(KEY))

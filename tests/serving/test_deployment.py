"""The application on a real Serve: proxy, replicas, promotion, a killed replica, and the configuration of infra/."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from cxr_platform.config import ConfigError, from_mapping
from cxr_platform.errors import ServingError
from cxr_platform.registry.promotion import promote
from cxr_platform.registry.store import Registry
from cxr_platform.serving.screener import Screener
from tests.conftest import REPOSITORY
from tests.serving.builders import filler, film_png, registry_with_champion

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray Serve's models use what Pydantic will remove
    from cxr_platform.serving.deployment import Options, build

KEY = "a key of many characters"
LEAD_SECONDS = 4.0


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    made = registry_with_champion(tmp_path_factory.mktemp("serving") / "registry")
    made.add(filler(seed=1))
    return made


@pytest.fixture(scope="module")
def server(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """`cxr serve` with two replicas and a key; (address, process id)."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "keys").write_text(KEY, encoding="utf-8")
    port = free_port()
    command = [sys.executable, "-m", "pipelines.serve", "--registry", str(registry.root), "--port", str(port)]
    command += ["--keys", str(folder / "keys"), "--no-explain", "--replicas", "2", "--most-replicas", "2"]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=subprocess.STDOUT, env=environment)
    try:
        deadline = time.monotonic() + 180
        while "Serving v1" not in (folder / "log").read_text():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}", process.pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, (folder / "log").read_text()
    finally:
        process.kill()


def replicas(parent: int) -> list[int]:
    """Process ids of the replicas of Screening below `parent`."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=2) for line in listed.splitlines()[1:]]
    children: dict[int, list[int]] = {}
    for pid, above, *_ in rows:
        children.setdefault(int(above), []).append(int(pid))
    below, pending = set(), [parent]
    while pending:
        found = children.get(pending.pop(), [])
        below.update(found)
        pending += found
    return [int(pid) for pid, _, *words in rows if int(pid) in below and "ServeReplica:cxr:Screening" in "".join(words)]


@pytest.mark.ray
def test_a_film_is_answered_as_without_a_server(server: tuple[str, int], registry: Registry) -> None:
    address, _ = server
    assert httpx.post(f"{address}/v1/screen", files={"file": film_png()}).status_code == 401
    answer = httpx.post(f"{address}/v1/screen", files={"file": film_png()}, headers={"x-api-key": KEY}).json()
    screener = Screener(*registry.open("v1"), threads=1)
    (expected,) = screener.screen([screener.prepare(film_png())])
    assert list(answer["probabilities"].values()) == pytest.approx(expected.probabilities.tolist(), abs=1e-4)
    assert httpx.get(f"{address}/readyz").json()["version"] == "v1"
    assert httpx.get(f"{address}/healthz").json() == {"status": "alive"}


@pytest.mark.ray
def test_hostile_bodies_get_problem_details_through_the_proxy(server: tuple[str, int]) -> None:
    address, _ = server
    headers = {"x-api-key": KEY}
    refused = httpx.post(f"{address}/v1/screen", files={"file": b"PK\3\4"}, headers=headers)
    assert (refused.status_code, refused.json()["reason"]) == (415, "not-an-image")
    large = httpx.post(f"{address}/v1/screen", files={"file": bytes(21 * 2**20)}, headers=headers)
    assert (large.status_code, large.json()["reason"]) == (413, "too-large")
    assert httpx.get(f"{address}/nothing").json()["reason"] == "no-such-page"


@pytest.mark.ray
def test_a_killed_replica_and_a_promotion_lose_no_request(server: tuple[str, int], registry: Registry) -> None:
    address, pid = server
    answers: list[tuple[float, str]] = []

    async def client(asking: httpx.AsyncClient, ends: float, number: int) -> None:
        while (sent := time.monotonic()) < ends:
            answer = await asking.post("/v1/screen", files={"file": film_png(number)}, headers={"x-api-key": KEY})
            assert answer.status_code == 200, answer.text
            answers.append((sent, answer.json()["model"]["version"]))

    async def trouble() -> None:
        await asyncio.sleep(1)
        os.kill(replicas(pid)[0], signal.SIGKILL)
        await asyncio.sleep(1)
        await asyncio.to_thread(promote, registry, "v2", force=True, lead_seconds=LEAD_SECONDS)

    async def load() -> None:
        async with httpx.AsyncClient(base_url=address, timeout=60) as asking:
            ends = time.monotonic() + LEAD_SECONDS + 8
            await asyncio.gather(trouble(), *(client(asking, ends, number) for number in range(4)))

    asyncio.run(load())
    versions = [version for _, version in sorted(answers)]
    assert {*versions} == {"v1", "v2"}
    assert (versions[0], versions[-1]) == ("v1", "v2")
    assert httpx.get(f"{address}/readyz").json()["version"] == "v2"


def arguments(registry: Path, **changes: Any) -> dict[str, Any]:
    return {"registry": str(registry), **changes}


def test_the_application_says_which_argument_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="replica"):
        build(arguments(tmp_path, replica=1))
    with pytest.raises(ConfigError, match="workers"):
        build(arguments(tmp_path, workers="two"))
    with pytest.raises(ServingError, match="API keys"):
        build(arguments(tmp_path, keys_file=str(tmp_path / "none")))


def test_the_application_can_be_built_without_a_cluster(tmp_path: Path) -> None:
    application = build(arguments(tmp_path, explain=False, gpu=0.0))
    assert json.dumps(arguments(tmp_path))
    assert application is not None


def test_serve_build_finds_an_application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.serve import Application

    monkeypatch.setenv("CXR_REGISTRY", str(tmp_path))
    module = sys.modules[build.__module__]
    assert isinstance(module.app, Application)
    assert not hasattr(module, "another")


def test_the_configuration_of_infra_is_of_this_application() -> None:
    from ray.serve.schema import ServeDeploySchema

    tree = yaml.safe_load((REPOSITORY / "infra" / "serve" / "config.yaml").read_text(encoding="utf-8"))
    (application,) = ServeDeploySchema.model_validate(tree).applications
    module, _, name = application.import_path.partition(":")
    assert getattr(sys.modules[module], name) is build
    options = from_mapping(Options, application.args, "config.yaml")
    assert options.most_replicas >= options.least_replicas >= 2
    assert tree["http_options"]["host"] == "127.0.0.1"

"""The application on Ray Serve: proxy, replicas, promotion, a killed replica, and the configuration in infra/."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from cxr_platform.config import ConfigError
from cxr_platform.errors import ServingError
from cxr_platform.registry.promotion import promote
from cxr_platform.registry.store import Registry
from cxr_platform.serving.request_batcher import CALLS_PER_REPLICA, MAX_BATCH_REQUESTS
from cxr_platform.serving.request_log import RequestLine
from cxr_platform.serving.screener import Screener
from cxr_platform.validation import validate
from pipelines.benchmarks.load_clients import Answer, load
from tests.conftest import REPOSITORY
from tests.ports import free_port
from tests.serving.builders import filler, image_png, registry_with_champion
from tests.serving.serve_process import KEY, get, post, replicas, served
from tests.waiting import wait_until

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray Serve's models use what Pydantic will remove
    from cxr_platform.serving.deployment import MAX_WAITING_REQUESTS, TARGET_CALLS, ServingOptions, build

LEAD_SECONDS = 15.0
"""In which both replicas load the other version on a busy machine too."""
CLIENTS = 16


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    made = registry_with_champion(tmp_path_factory.mktemp("serving") / "registry")
    made.add(filler(seed=1))
    return made


@pytest.fixture(scope="module")
def metrics_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def request_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "requests.jsonl"


@pytest.fixture(scope="module")
def server(
    registry: Registry, metrics_port: int, request_log: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, int, int]]:
    """Two replicas without Explainer; (address, port, process id)."""
    arguments = ["--no-explain", "--min-replicas", "2", "--max-replicas", "2", "--metrics-port", str(metrics_port)]
    arguments += ["--request-log", str(request_log)]
    with served(registry.root, tmp_path_factory.mktemp("server"), *arguments) as (port, pid):
        yield f"http://127.0.0.1:{port}", port, pid


def counted(metrics_port: int) -> dict[tuple[str, str], float]:
    """Return requests by (route, status) over all processes, as Prometheus reads them."""
    requests: Counter[tuple[str, str]] = Counter()
    for line in get(f"http://127.0.0.1:{metrics_port}/metrics").text.splitlines():
        if line.startswith("ray_cxr_requests_total{"):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
            requests[labels["route"], labels["status"]] += float(line.rpartition(" ")[2])  # type: ignore[assignment]
    return dict(requests)


@pytest.mark.ray
def test_an_image_gets_the_answer_of_a_local_screener(server: tuple[str, int, int], registry: Registry) -> None:
    address, *_ = server
    assert post(f"{address}/v1/screen", files={"file": image_png()}).status_code == 401
    answer = post(f"{address}/v1/screen", files={"file": image_png()}, headers={"x-api-key": KEY}).json()
    screener = Screener(*registry.open("v1"), threads=1)
    (expected,) = screener.screen([screener.prepare(image_png())])
    assert list(answer["probabilities"].values()) == pytest.approx(expected.probabilities.tolist(), abs=1e-4)
    assert get(f"{address}/readyz").json()["version"] == "v1"
    assert get(f"{address}/healthz").json() == {"status": "alive"}


@pytest.mark.ray
def test_simultaneous_requests_each_get_their_own_answer(server: tuple[str, int, int], registry: Registry) -> None:
    """So many that they are sent in batches; some are not images, some have no valid key."""
    address, *_ = server
    screener = Screener(*registry.open("v1"), threads=1)
    images = [image_png(number) for number in range(40)]
    expected = screener.screen([screener.prepare(image) for image in images])
    bodies = [b"PK" if number % 8 == 5 else image for number, image in enumerate(images)]

    async def ask() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=len(images))
        async with httpx.AsyncClient(base_url=address, limits=limits, timeout=60) as http:
            keys = [{"x-api-key": "no" if number % 8 == 3 else KEY} for number in range(len(images))]
            requests = zip(bodies, keys, strict=True)
            posts = (http.post("/v1/screen", files={"file": body}, headers=key) for body, key in requests)
            return await asyncio.gather(*posts)

    answers = asyncio.run(ask())
    statuses = {3: 401, 5: 415}
    assert [answer.status_code for answer in answers] == [statuses.get(n % 8, 200) for n in range(len(images))]
    for answer, image in zip(answers, expected, strict=True):
        if answer.status_code == 200:
            probabilities = answer.json()["probabilities"]
            assert list(probabilities.values()) == pytest.approx(image.probabilities.tolist(), abs=1e-4)
    assert len({answer.json()["request_id"] for answer in answers}) == len(images)


@pytest.mark.ray
def test_hostile_bodies_get_problem_details_through_the_proxy(server: tuple[str, int, int]) -> None:
    address, *_ = server
    headers = {"x-api-key": KEY}
    refused = post(f"{address}/v1/screen", files={"file": b"PK\3\4"}, headers=headers)
    assert (refused.status_code, refused.json()["reason"]) == (415, "not-an-image")
    large = post(f"{address}/v1/screen", files={"file": bytes(21 * 2**20)}, headers=headers)
    assert (large.status_code, large.json()["reason"]) == (413, "too-large")
    encoded = post(f"{address}/v1/screen", content=b"x", headers={**headers, "content-encoding": "gzip"})
    assert (encoded.status_code, encoded.json()["reason"]) == (415, "encoded-body")
    assert get(f"{address}/nothing").json()["reason"] == "not-found"
    many = get(f"{address}/healthz", headers={f"x-{number}": "x" for number in range(200)})
    assert (many.status_code, many.json()["reason"]) == (431, "large-headers")


@pytest.mark.ray
def test_answers_of_proxy_and_replicas_are_counted_once(server: tuple[str, int, int], metrics_port: int) -> None:
    """Counted on the batch route, which no other test here uses."""
    address, *_ = server
    batch, headers = f"{address}/v1/screen/batch", {"x-api-key": KEY}
    assert post(batch, files={"file": image_png()}).status_code == 401
    for _ in range(2):
        assert post(batch, files={"file": bytes(21 * 2**20)}, headers=headers).status_code == 413
    for _ in range(3):
        assert post(batch, files={"file": image_png()}, headers=headers).status_code == 200
    expected = {"401": 1.0, "413": 2.0, "200": 3.0}

    def counts() -> dict[str, float]:
        return {status: number for (route, status), number in counted(metrics_port).items() if "batch" in route}

    wait_until(lambda: counts() == expected, 300, 0.5, counts)


@pytest.mark.ray
def test_the_proxy_logs_each_request_and_nothing_of_its_content(
    server: tuple[str, int, int], request_log: Path
) -> None:
    """Answered by a replica, refused by a replica, refused by the proxy, and left by its client."""
    address, port, _ = server
    headers = {"x-api-key": KEY, "x-patient": "Doe", "user-agent": "Doe"}
    files = [{"file": ("Doe.png", image_png())}, {"file": ("Doe.png", b"PK Doe")}]
    answers = [post(f"{address}/v1/screen", files=each, headers=headers) for each in files]
    answers.append(post(f"{address}/v1/screen?name=Doe", files=files[0], headers={"x-api-key": "Doe"}))
    with socket.create_connection(("127.0.0.1", port)) as left:
        head = f"POST /v1/screen/Doe HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {KEY}\r\nContent-Length: 99\r\n\r\nDoe"
        left.sendall(head.encode())

    def lines() -> dict[str, dict[str, Any]]:
        """By request id; under "left" that of the client that has left."""
        read = [json.loads(line) for line in request_log.read_text(encoding="utf-8").splitlines()]
        return {"left" if line["status"] == 499 else line["request_id"]: line for line in read}

    asked = [*(answer.headers["x-request-id"] for answer in answers), "left"]
    wait_until(lambda: {*asked} <= {*lines()}, describe=lambda: request_log.read_text(encoding="utf-8"))
    written = [lines()[request_id] for request_id in asked]
    stated = [[line[name] for name in ("status", "route", "key", "reason", "version", "decision")] for line in written]
    name = "key-1"  # as the file of `served` gives it none
    assert stated == [
        [200, "/v1/screen", name, None, "v1", answers[0].json()["decision"]],
        [415, "/v1/screen", name, "not-an-image", None, None],
        [401, "/v1/screen", None, "no-key", None, None],
        [499, "other", name, None, None, None],
    ]
    stages = {"body", "upload", "waiting", "decode", "inference", "replica", "total"}
    assert [{*line["milliseconds"]} for line in written] == [
        stages,
        {"body", "replica", "total"},
        {"total"},
        {"body", "total"},
    ]
    assert {frozenset(line) for line in lines().values()} == {frozenset(RequestLine.model_fields)}
    assert not {"Doe", KEY, "127.0.0.1"} & {*re.findall(r"[\w.-]+", request_log.read_text(encoding="utf-8"))}


@pytest.mark.ray
def test_a_killed_replica_and_a_promotion_lose_no_request(server: tuple[str, int, int], registry: Registry) -> None:
    address, port, pid = server

    answers: list[Answer] = []

    async def kill_and_promote() -> None:
        await asyncio.sleep(1)
        os.kill((await asyncio.to_thread(replicas, pid, "Screening"))[0], signal.SIGKILL)
        await asyncio.sleep(1)
        await asyncio.to_thread(promote, registry, "v2", force=True, lead_seconds=LEAD_SECONDS)

    async def send_until_changed(pause: float) -> None:
        """Send requests until v2 has answered, and two seconds more; for some minutes at most."""
        images, changed, ends = [image_png(number) for number in range(CLIENTS)], False, time.monotonic() + 300
        await asyncio.sleep(pause)
        while not changed and time.monotonic() < ends:
            changed = any(answer.version == "v2" for answer in answers)
            answers.extend((await load(port, "/v1/screen", images, clients=CLIENTS, seconds=2, key=KEY)).answers)

    async def under_load() -> None:
        await asyncio.gather(send_until_changed(0), send_until_changed(1), kill_and_promote())  # never a gap in both

    asyncio.run(under_load())
    assert {answer.status for answer in answers} == {200}
    assert_one_change(answers)
    assert get(f"{address}/readyz").json()["version"] == "v2"


def assert_one_change(answers: Sequence[Answer]) -> None:
    """Requests get v1 and then v2 in the order of sending, except those that were running during the change: each of
    them got the version of the moment when it reached its replica, and they may overtake one another."""
    changed = min(answer.sent + answer.seconds for answer in answers if answer.version == "v2")
    settled = [a for a in sorted(answers, key=lambda a: a.sent) if not a.sent < changed <= a.sent + a.seconds]
    versions = [answer.version for answer in settled]
    assert {*versions} == {"v1", "v2"}
    assert versions == sorted(versions, key=str)


@pytest.mark.ray
def test_objects_that_do_not_fit_into_the_object_store_stay_in_memory() -> None:
    command = [sys.executable, "-m", "tests.serving.object_store_probe"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=180, check=True)
    (folder,) = map(Path, done.stdout.split())
    assert folder.parent == Path("/dev/shm")


def arguments(registry: Path, **changes: Any) -> dict[str, Any]:
    return {"registry": str(registry), **changes}


def test_an_invalid_argument_of_the_application_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="replica"):
        build(arguments(tmp_path, replica=1))
    with pytest.raises(ConfigError, match="workers"):
        build(arguments(tmp_path, workers="two"))
    with pytest.raises(ConfigError, match="workers"):
        build(arguments(tmp_path, workers=0))
    with pytest.raises(ConfigError, match="gpu"):
        build(arguments(tmp_path, gpu=-0.5))
    with pytest.raises(ConfigError, match="max_replicas of at least min_replicas, 9, not 8"):
        build(arguments(tmp_path, min_replicas=9))
    with pytest.raises(ConfigError, match="missing registry"):
        build({})
    with pytest.raises(ServingError, match="API keys"):
        build(arguments(tmp_path, keys_file=str(tmp_path / "none")))


def test_the_application_can_be_built_without_a_cluster(tmp_path: Path) -> None:
    application = build(arguments(tmp_path, explain=False, gpu=0.0))
    assert json.dumps(arguments(tmp_path))
    assert application is not None


def test_the_autoscaling_target_is_below_the_calls_that_the_proxy_sends() -> None:
    """A proxy with waiting requests has `CALLS_PER_REPLICA` calls per replica running, never more."""
    assert CALLS_PER_REPLICA / 2 < TARGET_CALLS < CALLS_PER_REPLICA
    assert 2 * MAX_BATCH_REQUESTS * CALLS_PER_REPLICA <= MAX_WAITING_REQUESTS


def test_serve_build_gets_an_application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.serve import Application

    monkeypatch.setenv("CXR_REGISTRY", str(tmp_path))
    module = sys.modules[build.__module__]
    assert isinstance(module.app, Application)
    assert not hasattr(module, "another")


def test_the_configuration_in_infra_is_valid() -> None:
    from ray.serve.schema import ServeDeploySchema

    tree = yaml.safe_load((REPOSITORY / "infra" / "serve" / "config.yaml").read_text(encoding="utf-8"))
    (application,) = ServeDeploySchema.model_validate(tree).applications
    module, _, name = application.import_path.partition(":")
    assert getattr(sys.modules[module], name) is build
    options = validate(ServingOptions, application.args, "config.yaml")
    assert options.max_replicas >= options.min_replicas >= 2
    assert tree["http_options"]["host"] == "127.0.0.1"

"""Prometheus with the shipped configuration answers every query of the dashboard about a real server."""

import shutil
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from cxr_platform.monitoring.drift import LEAST_IMAGES
from cxr_platform.monitoring.registry_exporter import serve_registry
from cxr_platform.registry.promotion import promote
from cxr_platform.registry.store import Registry
from tests.infra.queries import DASHBOARDS, RAY_NAME, dashboard_queries, rules
from tests.infra.running import Prometheus, run_jobs, served, textfiles
from tests.intake.files import png
from tests.ports import free_port
from tests.serving.builders import filler, image_png, registry_with_champion
from tests.waiting import wait_until

BATCH = 32
SCRAPED_SECONDS = 180.0
PROMOTIONS = "Promotions and rollbacks"
FAINT = png(np.full((200, 200), 90, np.uint8))
QUERIES = [(title, query) for path in DASHBOARDS for title, query, _ in dashboard_queries(path)]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    made = registry_with_champion(tmp_path_factory.mktemp("watched") / "registry")
    made.add(filler(seed=1))
    return made


@pytest.fixture(scope="module")
def server(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """Address of a server, and the port of its metrics."""
    metrics_port = free_port()
    with served(registry.root, tmp_path_factory.mktemp("server"), metrics_port) as address:
        yield address, metrics_port


@pytest.fixture(scope="module")
def program() -> str:
    program = shutil.which("prometheus")
    if not program:
        pytest.skip("prometheus is not installed (Debian's package prometheus)")
    return program


@pytest.fixture(scope="module")
def prometheus(
    program: str, registry: Registry, server: tuple[str, int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    jobs = tmp_path_factory.mktemp("jobs")
    run_jobs(jobs)
    exporter = serve_registry(registry.root, "127.0.0.1", 0)
    try:
        with textfiles(jobs) as node:
            targets = {"ray": server[1], "cxr-registry": exporter.server_port, "node": node}
            with Prometheus(tmp_path_factory.mktemp("prometheus"), targets).running(program) as running:
                yield running
    finally:
        exporter.shutdown()
        exporter.server_close()


def send(address: str, first: int = 0, images: int = BATCH - 1) -> None:
    """Send a batch of images, the last of low contrast, and a file that is not an image."""
    files = [("file", image_png(first + number)) for number in range(images)]
    batch = httpx.post(f"{address}/v1/screen/batch", files=[*files, ("file", FAINT)], timeout=60)
    assert batch.status_code == 200, batch.text
    assert httpx.post(f"{address}/v1/screen", files={"file": image_png(first)}, timeout=60).status_code == 200
    assert httpx.post(f"{address}/v1/screen", files={"file": b"no image"}, timeout=60).status_code == 415


def wait_for(prometheus: Prometheus, query: str) -> None:
    """Return once a query has an answer: what is missing after a scrape that took too long is there after the next."""
    wait_until(lambda: prometheus.ask(query), SCRAPED_SECONDS, 0.5, lambda: f"{query} has no answer")


@pytest.mark.ray
def test_every_query_of_the_dashboard_has_an_answer(
    prometheus: Prometheus, server: tuple[str, int], registry: Registry
) -> None:
    address, _ = server
    for first in range(0, LEAST_IMAGES + BATCH, BATCH):
        send(address, first)

    def empty() -> list[str]:
        send(address, images=1)  # rates need requests between two scrapes
        return [f"{title}: {query}" for title, query in QUERIES if title != PROMOTIONS and not prometheus.ask(query)]

    wait_until(lambda: not empty(), SCRAPED_SECONDS, 0.5, empty)
    for counted, least in (
        ("sum(ray_cxr_drift_window_images{quantity='labels'})", LEAST_IMAGES),
        ("sum(ray_cxr_requests_total{status='415'})", 1),
    ):
        wait_for(prometheus, f"{counted} >= {least}")

    promote(registry, "v2", force=True, lead_seconds=0)
    (mark,) = (query for title, query in QUERIES if title == PROMOTIONS)
    wait_for(prometheus, mark)


@pytest.mark.ray
def test_the_rules_use_series_that_ray_exports(prometheus: Prometheus) -> None:
    series = {name for rule in rules() for name in RAY_NAME.findall(rule["expr"])}
    assert len(series) >= 4
    for name in sorted(series):
        wait_for(prometheus, name)
    wait_for(prometheus, 'ray_resources{Name="CPU",State="USED"} > 0')  # a node with replicas, as CxrNodeLost asks


@pytest.mark.ray
def test_a_working_server_raises_no_alert(prometheus: Prometheus) -> None:
    wait_for(prometheus, "count(ray_cxr_model_info)")
    alerts = 'ALERTS{alertname=~"CxrNoReplica|CxrRegistryUnreadable|CxrServerErrors|CxrJobFailed"}'
    # One may be pending for a moment after a scrape that took too long.
    wait_until(lambda: not prometheus.ask(alerts), SCRAPED_SECONDS, 0.5, lambda: f"{alerts} has an answer")

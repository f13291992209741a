"""What a replica counts, with what takes the place of Ray's metrics. That Ray exports them is seen in Prometheus."""

from collections import Counter
from typing import Any

import pytest

from cxr_platform.monitoring import names, replica
from cxr_platform.monitoring.names import REFUSED_VERSIONS
from cxr_platform.serving.metrics import NoMetrics, ProxyCount, RayMetrics
from cxr_platform.serving.screener import Screener
from tests.intake.files import png
from tests.serving.builders import image, image_png


class Told:
    """In place of a metric of Ray: what it was told, by its tags."""

    def __init__(self) -> None:
        self.values: Counter[tuple[str, ...]] = Counter()

    def inc(self, value: float, tags: dict[str, str]) -> None:
        self.values[tuple(tags.values())] += value  # type: ignore[assignment]

    def set(self, value: float, tags: dict[str, str] | None = None) -> None:
        self.values[tuple((tags or {}).values())] = value  # type: ignore[assignment]

    observe = set


class Never:
    """In place of `Repeated`: nothing is published but when a test says so."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def stop(self) -> None:
        pass


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, Told]:
    made: dict[str, Told] = {}

    def in_ray(metric: names.Metric) -> Any:
        return made.setdefault(metric.name, Told())

    monkeypatch.setattr(replica, "in_ray", in_ray)
    monkeypatch.setattr(replica, "Repeated", Never)
    return made


def test_requests_decisions_and_refusals_are_counted(told: dict[str, Told], screener: Screener) -> None:
    metrics = RayMetrics()
    metrics.serving("v1", screener.reference, ["v2"])
    (screening,) = screener.screen([screener.prepare(image_png())])
    for _ in range(2):
        metrics.request("/v1/screen", 200)
        metrics.screened(screening, "v1")
    metrics.refused("not-an-image")
    metrics.stage("decode", 0.01)
    metrics.waiting(3)
    assert not told[names.QUEUED_REQUESTS.name].values
    metrics._publish()
    assert told[names.REQUESTS.name].values == {("/v1/screen", "200"): 2}
    assert told[names.DECISIONS.name].values == {(screening.decision, "v1"): 2}
    assert told[names.PREDICTIONS.name].values == {(screening.label, "v1"): 2}
    assert told[names.INTAKE_REFUSALS.name].values == {("not-an-image",): 1}
    assert told[names.REQUEST_SECONDS.name].values == {("decode",): 0.01}
    assert told[names.QUEUED_REQUESTS.name].values == {(): 3}
    assert told[names.MODEL_INFO.name].values == {("v1",): 1}
    assert told[REFUSED_VERSIONS.name].values == {(): 1}


def test_an_image_that_is_not_screenable_is_counted_by_its_findings(told: dict[str, Told], screener: Screener) -> None:
    metrics = RayMetrics()
    metrics.serving("v1", screener.reference, [])
    (screening,) = screener.screen([screener.prepare(png(image(0)[:, :60].copy()))])
    metrics.screened(screening, "v1")
    counted = told[names.QUALITY_REFUSALS.name].values
    assert counted == {(finding.code, "v1"): 1 for finding in screening.findings}
    assert counted


def test_the_window_is_of_the_version_that_answers(told: dict[str, Told], screener: Screener) -> None:
    metrics = RayMetrics()
    (screening,) = screener.screen([screener.prepare(image_png())])
    metrics.serving("v1", screener.reference, [])
    metrics.screened(screening, "v1")
    first = metrics._watch
    metrics.serving("v1", screener.reference, [])
    assert metrics._watch is first is not None
    assert first.publish()["covid19"].n == 1
    metrics.serving("v2", screener.reference, [])
    metrics.screened(screening, "v1")
    assert metrics._watch is not None
    assert metrics._watch.publish() == {}


def test_the_proxy_counts_by_the_name_and_the_labels_of_the_replicas(told: dict[str, Told]) -> None:
    count = ProxyCount()
    assert told == {}
    for _ in range(2):
        count("/v1/screen", 429)
    count("other", 413)
    assert told[names.REQUESTS.name].values == {("/v1/screen", "429"): 2, ("other", "413"): 1}


def test_without_ray_nothing_is_counted(screener: Screener) -> None:
    metrics = NoMetrics()
    metrics.request("/", 200)
    metrics.serving("v1", screener.reference, [])

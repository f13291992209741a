"""What is counted, with stand-ins for Ray's metrics. tests/infra checks that Prometheus sees them."""

from collections import Counter
from typing import Any

import pytest

from cxr_platform.monitoring import names, replica_metrics
from cxr_platform.monitoring.drift import LEAST_IMAGES
from cxr_platform.monitoring.names import REFUSED_VERSIONS
from cxr_platform.serving.metrics import ProxyMetrics, RayMetrics, ServingMetrics
from cxr_platform.serving.screener import Screener
from tests.intake.files import png
from tests.serving.builders import image, image_png


class FakeMetric:
    """Replaces a Ray metric: its values by tags."""

    def __init__(self) -> None:
        self.values: Counter[tuple[str, ...]] = Counter()

    def inc(self, value: float, tags: dict[str, str]) -> None:
        self.values[tuple(tags.values())] += value  # type: ignore[assignment]

    def set(self, value: float, tags: dict[str, str] | None = None) -> None:
        self.values[tuple((tags or {}).values())] = value  # type: ignore[assignment]

    observe = set


class NeverRepeated:
    """Replaces `Repeated`: nothing is published unless a test does."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def stop(self) -> None:
        pass


@pytest.fixture
def values(monkeypatch: pytest.MonkeyPatch) -> dict[str, FakeMetric]:
    made: dict[str, FakeMetric] = {}

    def in_ray(metric: names.Metric) -> Any:
        return made.setdefault(metric.name, FakeMetric())

    monkeypatch.setattr(replica_metrics, "in_ray", in_ray)
    monkeypatch.setattr(replica_metrics, "Repeated", NeverRepeated)
    return made


def test_requests_decisions_and_refusals_are_counted(values: dict[str, FakeMetric], screener: Screener) -> None:
    metrics = RayMetrics()
    metrics.set_version("v1", screener.reference, ["v2"])
    (screening,) = screener.screen([screener.prepare(image_png())])
    for _ in range(2):
        metrics.count_screening(screening, "v1")
    metrics.count_refusal("not-an-image")
    metrics.observe_stage("decode", 0.01)
    metrics.set_waiting(3)
    assert not values[names.QUEUED_REQUESTS.name].values
    metrics.publish()
    assert values[names.DECISIONS.name].values == {(screening.decision, "v1"): 2}
    assert values[names.PREDICTIONS.name].values == {(screening.label, "v1"): 2}
    assert values[names.INTAKE_REFUSALS.name].values == {("not-an-image",): 1}
    assert values[names.REQUEST_SECONDS.name].values == {("decode",): 0.01}
    assert values[names.QUEUED_REQUESTS.name].values == {(): 3}
    assert values[names.MODEL_INFO.name].values == {("v1",): 1}
    assert values[REFUSED_VERSIONS.name].values == {(): 1}


def test_an_image_that_is_not_screenable_is_counted_by_finding(
    values: dict[str, FakeMetric], screener: Screener
) -> None:
    metrics = RayMetrics()
    metrics.set_version("v1", screener.reference, [])
    (screening,) = screener.screen([screener.prepare(png(image(0)[:, :60].copy()))])
    metrics.count_screening(screening, "v1")
    counted = values[names.QUALITY_REFUSALS.name].values
    assert counted == {(finding.code, "v1"): 1 for finding in screening.findings}
    assert counted


def test_a_challenger_is_counted_beside_the_champion_with_a_drift_window_of_its_own(
    values: dict[str, FakeMetric], screener: Screener
) -> None:
    metrics = RayMetrics()
    (screening,) = screener.screen([screener.prepare(image_png())])
    metrics.set_version("v0", screener.reference, [])
    metrics.count_shadow("v0", "positive", screener, screening)
    metrics.count_shadow_skip("queue-full")
    assert values[names.SHADOW_DECISIONS.name].values == {("v0", "v1", "positive", screening.decision): 1}
    assert values[names.SHADOW_SKIPPED.name].values == {("queue-full",): 1}
    assert values[names.DECISIONS.name].values == {}, "no client was answered"
    assert metrics._challenger is not None
    assert metrics._challenger[1].publish()["covid19"].n == 1
    for _ in range(LEAST_IMAGES - 1):
        metrics.count_shadow("v0", "positive", screener, screening)
    psi = {quantity: measured.psi for quantity, measured in metrics._challenger[1].publish().items()}
    assert psi["covid19"] > 0
    assert values[names.DRIFT_PSI.name].values == {(quantity, "v1"): value for quantity, value in psi.items()}
    images = {(quantity, "v1"): LEAST_IMAGES for quantity in psi}
    assert values[names.DRIFT_WINDOW.name].values == images


def test_the_drift_window_belongs_to_the_version_that_answers(
    values: dict[str, FakeMetric], screener: Screener
) -> None:
    metrics = RayMetrics()
    (screening,) = screener.screen([screener.prepare(image_png())])
    metrics.set_version("v1", screener.reference, [])
    metrics.count_screening(screening, "v1")
    first = metrics._drift
    metrics.set_version("v1", screener.reference, [])
    assert metrics._drift is first is not None
    assert first.publish()["covid19"].n == 1
    metrics.set_version("v2", screener.reference, [])
    metrics.count_screening(screening, "v1")
    assert metrics._drift is not None
    assert metrics._drift.publish() == {}


def test_the_proxy_counts_and_times_requests(values: dict[str, FakeMetric]) -> None:
    metrics = ProxyMetrics()
    assert values == {}
    metrics.count_refusal("other", 431)
    for _ in range(2):
        metrics.add_request("/v1/screen", 429, None, 0.2)
    metrics.add_request("other", 413, "ward", 0.3)
    counted = {("other", "431"): 1, ("/v1/screen", "429"): 2, ("other", "413"): 1}
    assert values[names.REQUESTS.name].values == counted
    assert values[names.KEY_REQUESTS.name].values == {("ward", "413"): 1}
    assert values[names.PROXY_SECONDS.name].values == {("/v1/screen", "429"): 0.2, ("other", "413"): 0.3}


def test_the_proxy_publishes_unanswered_requests(values: dict[str, FakeMetric]) -> None:
    metrics, states = ProxyMetrics(), {"upload": 1, "waiting": 2, "forwarded": 3}
    metrics.watch(lambda: states)
    publishing: Any = metrics._publishing
    metrics.watch(dict)
    assert metrics._publishing is publishing
    publishing.function()
    assert values[names.PROXY_REQUESTS.name].values == {(state,): n for state, n in states.items()}


def test_the_base_class_counts_nothing(screener: Screener) -> None:
    metrics = ServingMetrics()
    metrics.set_version("v1", screener.reference, [])

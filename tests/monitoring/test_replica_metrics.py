from dataclasses import replace

import numpy as np
import pytest

from cxr_platform.cluster import connect
from cxr_platform.monitoring import names
from cxr_platform.monitoring.drift import drift
from cxr_platform.monitoring.names import Metric
from cxr_platform.monitoring.replica_metrics import DriftWatch, Repeated, in_ray
from tests.monitoring.builders import draw, make_reference, observations, window_of
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def cluster() -> None:
    """Use the Ray instance of other tests, or start one."""
    connect()


@pytest.mark.parametrize("shift", [0.0, 0.05])
def test_the_weighted_mean_over_replicas_estimates_the_drift_of_all_images(shift: float) -> None:
    """As in infra/prometheus/rules.yml, for four replicas with randomly distributed images."""
    rng, reference = np.random.default_rng(11), make_reference()
    images = observations(draw(rng, 4000, brightness=0.5 + shift), reference)
    parts = np.split(rng.permutation(4000), np.cumsum([400, 900, 1200]))
    drifts = [drift(window_of([images[i] for i in part], 2000), reference) for part in parts]
    whole = drift(window_of(images, 4000), reference)
    for name in whole:
        images_each = [d[name].n for d in drifts]
        assert np.average([d[name].psi for d in drifts], weights=images_each) == pytest.approx(
            whole[name].psi, abs=0.02
        )
        if whole[name].ks is not None:
            mean = np.average([d[name].ks or 0 for d in drifts], weights=images_each)
            assert mean == pytest.approx(whole[name].ks, abs=0.03)


def test_a_gauge_is_set_again_until_stopped() -> None:
    calls: list[int] = []
    repeated = Repeated(lambda: calls.append(1), seconds=0.01)
    wait_until(lambda: len(calls) > 3)
    repeated.stop()
    wait_until(lambda: not repeated.alive)


def test_a_repeated_call_continues_after_an_error(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []

    def failing_thrice() -> None:
        calls.append(1)
        if len(calls) <= 3:
            raise OSError("Stale file handle")

    repeated = Repeated(failing_thrice, seconds=0.01)
    wait_until(lambda: len(calls) > 5)
    repeated.stop()
    assert caplog.text.count("A repeated call failed") == 1


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("metric", [m for m in names.METRICS if m.source == "replica"], ids=lambda m: m.name)
def test_ray_has_every_metric_of_replicas(metric: Metric) -> None:
    ray_metric = in_ray(metric)
    tags = dict.fromkeys(metric.labels, "a")
    {"counter": lambda: ray_metric.inc(1, tags), "gauge": lambda: ray_metric.set(1, tags),
     "histogram": lambda: ray_metric.observe(1, tags)}[metric.kind]()  # fmt: skip
    assert ray_metric.info["tag_keys"] == metric.labels


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_drift_is_published_from_the_least_number_of_images_on() -> None:
    reference = make_reference()
    images = observations(draw(np.random.default_rng(5), 250), reference)
    watch = DriftWatch(reference, "v1")
    watch.stop()
    wait_until(lambda: not watch._repeated.alive)
    published: dict[str, dict[str, float | None]] = {"psi": {}, "ks": {}, "images": {}}
    watch._psi, watch._ks, watch._images = (Kept(published[name]) for name in ("psi", "ks", "images"))
    assert watch.publish() == {}
    for image in images[:199]:
        watch.add(image)
    watch.publish()
    assert (published["psi"], published["images"]["labels"]) == ({}, 199)
    watch.add(replace(images[199], brightness=0.0))
    drifts = watch.publish()
    assert published["psi"] == {name: d.psi for name, d in drifts.items()}
    assert published["ks"]["labels"] is None


class Kept:
    def __init__(self, values: dict[str, float | None]) -> None:
        self.values = values

    def set(self, value: float | None, tags: dict[str, str]) -> None:
        assert tags["version"] == "v1"
        self.values[tags["quantity"]] = value

"""Metrics of a replica, published through Ray: counters and gauges by name, and the drift of the replica's own images.

Each replica publishes the drift of its own window, without a common one. Serve distributes requests at random, so each
window is a sample of all images, and the mean over replicas weighted by images (`cxr:drift_psi:mean` in
infra/prometheus/rules.yml) estimates the drift of all. Smaller windows add a little: four replicas with 1,000 images
each give a PSI 0.007 higher than one window of 4,000. No other process or shared folder is needed, and values of a
single image stay in the replica's memory.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from cxr_platform.monitoring.drift import LEAST_IMAGES, WINDOW_IMAGES, Drift, Observation, Window, drift
from cxr_platform.monitoring.names import DRIFT_KS, DRIFT_PSI, DRIFT_WINDOW, Metric
from cxr_platform.monitoring.reference import Reference

REPEAT_SECONDS = 5.0
log = logging.getLogger(__name__)


def in_ray(metric: Metric) -> Any:
    """Return the `ray.util.metrics` Counter, Gauge or Histogram of a metric of replicas, with its labels as tag keys.

    In Ray 2.60 a gauge that is not set again disappears after some 20 s (`Repeated` sets it again), and the sum of a
    histogram is computed from the middles of its buckets, so its quantiles are right but its mean is not.
    """
    from ray.util import metrics

    if metric.kind == "histogram":
        return metrics.Histogram(metric.name, metric.help, boundaries=list(metric.buckets), tag_keys=metric.labels)
    kind = metrics.Counter if metric.kind == "counter" else metrics.Gauge
    return kind(metric.name, metric.help, tag_keys=metric.labels)


class Repeated:
    """Call `function` now and every `seconds`, in a thread that ends with `stop` or with the process.

    An exception is logged, only the first of several in a row, and the calls continue.
    """

    def __init__(self, function: Callable[[], object], seconds: float = REPEAT_SECONDS) -> None:
        self._function, self._seconds = function, seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="cxr-metrics")
        self._thread.start()

    @property
    def alive(self) -> bool:
        """True until the thread has ended."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End the calls."""
        self._stopped.set()

    def _run(self) -> None:
        failing = False
        while not self._stopped.is_set():
            try:
                self._function()
                failing = False
            except Exception:
                if not failing:
                    log.exception("A repeated call failed; it is repeated every %g s", self._seconds)
                failing = True
            self._stopped.wait(self._seconds)


class DriftWatch:
    """Window of one version in one replica, whose drift is published every five seconds until `stop`.

    PSI and KS are published from `LEAST_IMAGES` images on. Add images that are not screenable too: drift often shows
    in them first.
    """

    def __init__(self, reference: Reference, version: str, size: int = WINDOW_IMAGES) -> None:
        self._reference, self._version, self._window = reference, version, Window(size)
        self._psi, self._ks, self._images = (in_ray(metric) for metric in (DRIFT_PSI, DRIFT_KS, DRIFT_WINDOW))
        self._repeated = Repeated(self.publish)

    def add(self, observation: Observation) -> None:
        """Add one image, in microseconds."""
        self._window.add(observation)

    def publish(self) -> Mapping[str, Drift]:
        """Compute the drift, in milliseconds, set the gauges, and return it."""
        drifts = drift(self._window, self._reference)
        for quantity, measured in drifts.items():
            tags = {"quantity": quantity, "version": self._version}
            self._images.set(measured.n, tags)
            if measured.n >= LEAST_IMAGES:
                self._psi.set(measured.psi, tags)
                self._ks.set(measured.ks, tags)  # None for labels, which sets nothing
        return drifts

    def stop(self) -> None:
        """Stop publishing; the gauges then disappear."""
        self._repeated.stop()

"""What a replica publishes through Ray: metrics by their names, and the drift of the images that it saw itself.

Why every replica publishes the drift of its own window, and nothing is gathered: Serve hands requests out without
looking at them, so each window is a sample of all images, and the mean of the replicas' figures, weighted by their
images (`cxr:drift_psi` in infra/prometheus/rules.yml), is the figure of all but for what chance adds to smaller
windows. Four replicas of 1,000 images give a PSI that is 0.007 higher than one window of 4,000 would. It needs no
further process and no shared folder, and no number of a single image ever leaves the replica's memory.
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
    """The `ray.util.metrics` Counter, Gauge or Histogram of a metric of replicas; its `labels` are the tag keys.

    Two ways of Ray's (2.60): a gauge that is not set again disappears after some 20 s (`Repeated` sets it again), and
    the sum of a histogram is made of the middles of its buckets (quantiles are right, means are not).
    """
    from ray.util import metrics

    if metric.kind == "histogram":
        return metrics.Histogram(metric.name, metric.help, boundaries=list(metric.buckets), tag_keys=metric.labels)
    kind = metrics.Counter if metric.kind == "counter" else metrics.Gauge
    return kind(metric.name, metric.help, tag_keys=metric.labels)


class Repeated:
    """Calls `function` now and every `seconds` in a thread that ends with `stop` or with the process.

    What it raises is logged, the first time in a row, and it is called again all the same.
    """

    def __init__(self, function: Callable[[], object], seconds: float = REPEAT_SECONDS) -> None:
        self._function, self._seconds = function, seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="cxr-metrics")
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it may still be called."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Do not call it again."""
        self._stopped.set()

    def _run(self) -> None:
        failing = False
        while not self._stopped.is_set():
            try:
                self._function()
                failing = False
            except Exception:
                if not failing:
                    log.exception("What is repeated failed, and is called again every %g s", self._seconds)
                failing = True
            self._stopped.wait(self._seconds)


class DriftWatch:
    """The window of one version in one replica; its drift is published every five seconds until `stop`.

    PSI and KS appear once the window holds 200 images: before, chance alone could make them look like drift. Images
    that were not screenable belong into it as well: they are how drift shows first.
    """

    def __init__(self, reference: Reference, version: str, size: int = WINDOW_IMAGES) -> None:
        self._reference, self._version, self._window = reference, version, Window(size)
        self._psi, self._ks, self._images = (in_ray(metric) for metric in (DRIFT_PSI, DRIFT_KS, DRIFT_WINDOW))
        self._repeated = Repeated(self.publish)

    def add(self, observation: Observation) -> None:
        """Take one image in: microseconds."""
        self._window.add(observation)

    def publish(self) -> Mapping[str, Drift]:
        """Compute the drift (milliseconds), set the gauges, and return it."""
        found = drift(self._window, self._reference)
        for quantity, figures in found.items():
            tags = {"quantity": quantity, "version": self._version}
            self._images.set(figures.n, tags)
            if figures.n >= LEAST_IMAGES:
                self._psi.set(figures.psi, tags)
                self._ks.set(figures.ks, tags)  # None, of labels, sets nothing
        return found

    def stop(self) -> None:
        """Publish no more, as when another version has taken over; the gauges then disappear."""
        self._repeated.stop()

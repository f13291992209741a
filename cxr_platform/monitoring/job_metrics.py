"""Metrics of batch jobs: written for node exporter's textfile collector, or pushed to a push gateway.

    with measured("study", name, Destination.choose(folder, gateway), on_message) as job:
        …
        study_counts(job, trials, accuracy)

Without a destination in options or environment nothing is written. A job does not fail if its metrics cannot be
delivered: `on_message` receives the reason.
"""

import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prometheus_client import CollectorRegistry, Gauge, generate_latest, push_to_gateway

from cxr_platform.errors import ConfigError, CxrError, StorageError
from cxr_platform.monitoring import names
from cxr_platform.storage.files import write_atomically, write_errors

FOLDER_VARIABLE, GATEWAY_VARIABLE = "CXR_METRICS_DIR", "CXR_PUSHGATEWAY_URL"
GATEWAY_SECONDS = 5.0
PROGRESS_SECONDS = 60.0
"""Least time between two deliveries of a running study: a gateway that does not answer costs `GATEWAY_SECONDS`."""
RECENT_REPORTS = 100

Verb = Literal["manifest", "study", "champion"]


@dataclass(frozen=True)
class Destination:
    """A `folder` that node exporter reads (--collector.textfile.directory), and the URL of a push `gateway`."""

    folder: Path | None = None
    gateway: str | None = None

    @classmethod
    def choose(cls, folder: Path | None = None, gateway: str | None = None) -> "Destination":
        """Return the given values, else CXR_METRICS_DIR and CXR_PUSHGATEWAY_URL; raise `ConfigError` for a bad URL."""
        folder = folder or (Path(os.environ[FOLDER_VARIABLE]) if os.environ.get(FOLDER_VARIABLE) else None)
        gateway = gateway or os.environ.get(GATEWAY_VARIABLE) or None
        if gateway and not re.match(r"https?://[^/]", gateway):
            raise ConfigError("Expected the URL of a push gateway, http://host:9091 for example.", received=gateway)
        return cls(folder, gateway)


class JobMetrics:
    """Metrics of one run of `verb` for `study`."""

    def __init__(self, verb: Verb, study: str) -> None:
        self.verb, self.study = verb, study
        self._registry = CollectorRegistry()
        self._gauges: dict[str, Gauge] = {}

    def set(self, metric: names.Metric, value: float, **labels: str) -> None:
        """Set a gauge; the labels `study` and `verb` are added."""
        known = {"study": self.study, "verb": self.verb}
        if metric.name not in self._gauges:
            self._gauges[metric.name] = Gauge(metric.name, metric.help, metric.labels, registry=self._registry)
        self._gauges[metric.name].labels(**{name: labels.get(name, known.get(name)) for name in metric.labels}).set(
            value
        )

    def remove(self, metric: names.Metric) -> None:
        """Remove a gauge, if it was set."""
        if (gauge := self._gauges.pop(metric.name, None)) is not None:
            self._registry.unregister(gauge)

    def text(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def deliver(self, destination: Destination) -> None:
        """Write and push the metrics, in place of those of an earlier run of this verb for this study.

        Raise `StorageError` if that is not possible.
        """
        if destination.folder:
            with write_errors(destination.folder):
                destination.folder.mkdir(parents=True, exist_ok=True)
            name = re.sub(r"[^A-Za-z0-9_.-]", "_", self.study)
            write_atomically(destination.folder / f"cxr_{self.verb}_{name}.prom", self.text())
        if destination.gateway:
            self._push(destination.gateway)

    def _push(self, gateway: str) -> None:
        grouping = {"study": self.study}
        try:
            push_to_gateway(gateway, f"cxr_{self.verb}", self._registry, grouping, timeout=GATEWAY_SECONDS)
        except (OSError, ValueError) as error:
            raise StorageError(f"Expected a push gateway at {gateway}.", received=error) from error


@contextmanager
def measured(
    verb: Verb, study: str, destination: Destination, on_message: Callable[[str], object]
) -> Iterator[JobMetrics]:
    """Yield a job and, however the block ends, deliver its metrics with duration, end and success."""
    job, started, success = JobMetrics(verb, study), time.monotonic(), False
    try:
        yield job
        success = True
    finally:
        job.set(names.JOB_SECONDS, time.monotonic() - started)
        job.set(names.JOB_FINISHED, time.time())
        job.set(names.JOB_SUCCESS, float(success))
        try:
            job.deliver(destination)
        except CxrError as error:
            on_message(f"The metrics of this run were not delivered. {error}")


class ProgressWatch:
    """Exports when a running study last made progress, and its slowest recent step, so that a stalled study is noticed.

        with ProgressWatch(job, destination) as watch:
            …
            watch.advance()

    When the block ends the metrics are removed; a driver that was killed leaves them behind, and the alert fires. A
    delivery that fails is repeated with a later report.
    """

    def __init__(self, job: JobMetrics, destination: Destination, now: Callable[[], float] = time.time) -> None:
        self._job, self._destination, self._now = job, destination, now
        self._intervals: deque[float] = deque(maxlen=RECENT_REPORTS)
        self._last: float | None = None
        self._delivered = -PROGRESS_SECONDS

    def advance(self) -> None:
        """Note that an epoch or a trial was finished, or that training begins."""
        now = self._now()
        if self._last is not None:
            self._intervals.append(now - self._last)
        self._last = now
        if now - self._delivered >= PROGRESS_SECONDS:
            self._delivered = now
            self._job.set(names.STUDY_PROGRESS, now)
            self._job.set(names.STUDY_PACE, max(self._intervals, default=0.0))
            self._deliver()

    def __enter__(self) -> "ProgressWatch":
        return self

    def __exit__(self, *_: object) -> None:
        if self._last is None:
            return
        for metric in (names.STUDY_PROGRESS, names.STUDY_PACE):
            self._job.remove(metric)
        self._deliver()

    def _deliver(self) -> None:
        with suppress(CxrError):  # the delivery at the end of the job reports it
            self._job.deliver(self._destination)


def manifest_counts(job: JobMetrics, images: Mapping[tuple[str, str], int], excluded: Mapping[str, int]) -> None:
    """Set the numbers of a manifest: `images` by (label, source), `excluded` files by reason."""
    for (label, source), count in images.items():
        job.set(names.MANIFEST_IMAGES, count, label=label, source=source)
    for reason, count in excluded.items():
        job.set(names.MANIFEST_EXCLUDED, count, reason=reason)


def study_counts(job: JobMetrics, trials: Mapping[str, int], accuracies: Mapping[str, float | None]) -> None:
    """Set the `trials` of a study by state (finished, failed), and its out-of-fold 7-class `accuracies` in percent.

    An undefined accuracy is not exported: 0 would be a very bad model.
    """
    accuracy = {strategy: percent for strategy, percent in accuracies.items() if percent is not None}
    for state, count in trials.items():
        job.set(names.STUDY_TRIALS, count, state=state)
    for strategy, percent in accuracy.items():
        job.set(names.STUDY_ACCURACY, percent / 100, strategy=strategy)
    if accuracy:
        best = max(accuracy, key=lambda strategy: accuracy[strategy])
        job.set(names.STUDY_BEST_ACCURACY, accuracy[best] / 100, strategy=best)


def champion_counts(job: JobMetrics, strategy: str, images: int, epochs: int, accuracy: float | None) -> None:
    """Set the training of a champion, and its strategy's out-of-fold 7-class `accuracy` in percent if defined."""
    job.set(names.CHAMPION_IMAGES, images, strategy=strategy)
    job.set(names.CHAMPION_EPOCHS, epochs, strategy=strategy)
    if accuracy is not None:
        job.set(names.CHAMPION_ACCURACY, accuracy / 100, strategy=strategy)

"""Metrics of jobs that end: written for node exporter's textfile collector, or pushed to a push gateway.

    with measured("study", name, Destination.choose(folder, gateway), say) as job:
        …
        study_counts(job, trials, accuracy)

Where neither is asked for, by option or environment, nothing is written. A job that did its work does not fail
because its metrics cannot be delivered: `say` is told.
"""

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prometheus_client import CollectorRegistry, Gauge, generate_latest, push_to_gateway

from cxr_platform.errors import ConfigError, CxrError, StorageError
from cxr_platform.monitoring import names
from cxr_platform.storage.files import write_atomically, write_errors

FOLDER_VARIABLE, GATEWAY_VARIABLE = "CXR_METRICS_DIR", "CXR_PUSHGATEWAY_URL"
GATEWAY_SECONDS = 5.0

Verb = Literal["manifest", "study", "champion"]


@dataclass(frozen=True)
class Destination:
    """A `folder` that node exporter reads (--collector.textfile.directory), the URL of a `gateway`, both or none."""

    folder: Path | None = None
    gateway: str | None = None

    @classmethod
    def choose(cls, folder: Path | None = None, gateway: str | None = None) -> "Destination":
        """What was given, else CXR_METRICS_DIR and CXR_PUSHGATEWAY_URL; `ConfigError` for what is no such URL."""
        folder = folder or (Path(os.environ[FOLDER_VARIABLE]) if os.environ.get(FOLDER_VARIABLE) else None)
        gateway = gateway or os.environ.get(GATEWAY_VARIABLE) or None
        if gateway and not re.match(r"https?://[^/]", gateway):
            raise ConfigError("Expected the URL of a push gateway, http://host:9091 for example.", received=gateway)
        return cls(folder, gateway)


class Job:
    """The metrics of one run of `verb` for `study`, until they are delivered."""

    def __init__(self, verb: Verb, study: str) -> None:
        self.verb, self.study = verb, study
        self._registry = CollectorRegistry()
        self._gauges: dict[str, Gauge] = {}

    def set(self, metric: names.Metric, value: float, **labels: str) -> None:
        """Set a gauge of batch jobs; `study` and `verb` are filled in."""
        known = {"study": self.study, "verb": self.verb}
        if metric.name not in self._gauges:
            self._gauges[metric.name] = Gauge(metric.name, metric.help, metric.labels, registry=self._registry)
        self._gauges[metric.name].labels(**{name: labels.get(name, known.get(name)) for name in metric.labels}).set(
            value
        )

    def text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self._registry)

    def deliver(self, destination: Destination) -> None:
        """Write and push; what an earlier run of this verb for this study left is replaced. Raises `StorageError`."""
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
def measured(verb: Verb, study: str, destination: Destination, say: Callable[[str], object]) -> Iterator[Job]:
    """A job whose duration, end and success are delivered with what the block sets, however the block ends."""
    job, started, success = Job(verb, study), time.monotonic(), False
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
            say(f"The metrics of this run were not delivered. {error}")


def manifest_counts(job: Job, images: Mapping[tuple[str, str], int], excluded: Mapping[str, int]) -> None:
    """What a manifest holds: `images` by (label, source), `excluded` files by reason."""
    for (label, source), count in images.items():
        job.set(names.MANIFEST_IMAGES, count, label=label, source=source)
    for reason, count in excluded.items():
        job.set(names.MANIFEST_EXCLUDED, count, reason=reason)


def study_counts(job: Job, trials: Mapping[str, int], accuracies: Mapping[str, float | None]) -> None:
    """How a study went: `trials` by state (finished, failed), out-of-fold 7-class accuracy (percent) by strategy.

    One that is undefined is not exported: 0 would be a very bad model.
    """
    accuracy = {strategy: percent for strategy, percent in accuracies.items() if percent is not None}
    for state, count in trials.items():
        job.set(names.STUDY_TRIALS, count, state=state)
    for strategy, percent in accuracy.items():
        job.set(names.STUDY_ACCURACY, percent / 100, strategy=strategy)
    if accuracy:
        best = max(accuracy, key=lambda strategy: accuracy[strategy])
        job.set(names.STUDY_BEST_ACCURACY, accuracy[best] / 100, strategy=best)


def champion_counts(job: Job, strategy: str, images: int, epochs: int, accuracy: float | None) -> None:
    """What a champion was trained on, and its strategy's out-of-fold 7-class `accuracy` (percent) in the study.

    One that is undefined is not exported: 0 would be a very bad model.
    """
    job.set(names.CHAMPION_IMAGES, images, strategy=strategy)
    job.set(names.CHAMPION_EPOCHS, epochs, strategy=strategy)
    if accuracy is not None:
        job.set(names.CHAMPION_ACCURACY, accuracy / 100, strategy=strategy)

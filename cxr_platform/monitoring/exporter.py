"""The registry as Prometheus sees it. Drift is published by the replicas themselves (`replica`).

Read afresh at every scrape; a bundle is opened again only when its version or hash is another one, and every bundle's
bytes are compared with their hashes once in ten minutes.
"""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from cxr_platform.errors import RegistryError, ServingError
from cxr_platform.labels import CLASSES
from cxr_platform.monitoring import names
from cxr_platform.monitoring.reference import Reference, parse_reference
from cxr_platform.registry.bundle import REFERENCE, Bundle, Figure, read_bundle, read_member
from cxr_platform.registry.state import State
from cxr_platform.registry.store import Registry

VERIFY_SECONDS = 600.0
Family = CounterMetricFamily | GaugeMetricFamily
Sample = tuple[tuple[str, ...], float | None]


class RegistryCollector(Collector):
    """The registry at `root`; where registry.json cannot be read, nothing but `cxr_registry_readable 0`."""

    def __init__(self, root: Path) -> None:
        self._registry = Registry(root)
        self._opened = lru_cache(maxsize=2)(self._open)
        self._broken, self._verified = 0, -VERIFY_SECONDS

    def describe(self) -> list[Any]:
        """Nothing is known before the first scrape."""
        return []

    def collect(self) -> Iterator[Family]:
        """One family a metric of the exporter."""
        try:
            state = self._registry.state()
        except (RegistryError, OSError):
            yield family(names.REGISTRY_READABLE, ((), 0))
            return
        yield family(names.REGISTRY_READABLE, ((), 1))
        yield family(names.REGISTRY_VERSIONS, ((), len(state.versions)))
        changes = Counter((event.action, str(event.forced).lower()) for event in state.history)
        yield family(names.REGISTRY_CHANGES, *changes.items())
        if state.champion is not None:
            yield from self._champion(state.champion, state)
        yield family(names.REGISTRY_BROKEN, ((), self._count_broken()))

    def _champion(self, version: str, state: State) -> Iterator[Family]:
        try:
            bundle, reference = self._opened(version, state.versions[version].sha256)
        except RegistryError:
            self._verified = -VERIFY_SECONDS
            return
        about = (version, bundle.strategy, str(bundle.synthetic).lower())
        yield family(names.CHAMPION_INFO, (about, 1))
        yield family(names.CHAMPION_CREATED, ((version,), _seconds(bundle.created)))
        yield family(names.CHAMPION_EFFECTIVE, ((version,), _seconds(state.history[-1].effective_at)))
        point = bundle.operating_point
        yield family(names.CHAMPION_SENSITIVITY, *_bounds((version,), point.sensitivity))
        yield family(names.CHAMPION_SPECIFICITY, *_bounds((version,), point.specificity))
        parts = [(version, part.name) for part in fields(point.decided)]
        yield family(names.CHAMPION_DECIDED, *(s for p in parts for s in _bounds(p, getattr(point.decided, p[1]))))
        yield family(names.REFERENCE_LABELS, *(((label, version), reference.labels[label]) for label in CLASSES))

    def _open(self, version: str, sha256: str) -> tuple[Bundle, Reference]:
        folder = self._registry.root / version
        bundle = read_bundle(folder, sha256)
        return bundle, parse_reference(read_member(folder, bundle, REFERENCE), str(folder / REFERENCE))

    def _count_broken(self) -> int:
        if time.monotonic() - self._verified >= VERIFY_SECONDS:
            self._broken = sum(check.problem is not None for check in self._registry.verify())
            self._verified = time.monotonic()
        return self._broken


def family(metric: names.Metric, *samples: Sample) -> Family:
    """`metric` with its samples, each the values of its labels and a value; those of `None` are left out."""
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    found: Family = kind(metric.name, metric.help, labels=metric.labels)
    for labels, value in samples:
        if value is not None:
            found.add_metric(labels, value)
    return found


def serve_registry(root: Path, host: str, port: int) -> Any:
    """Answer GET /metrics at `host`:`port` in a thread; returns the server. `ServingError` where the port is taken."""
    collectors = CollectorRegistry()
    collectors.register(RegistryCollector(root))
    try:
        server, _ = start_http_server(port, host, collectors)
    except OSError as error:
        raise ServingError(
            f"Expected to listen on {host}:{port}.", received=error.strerror or error, advice="Give another --port."
        ) from error
    return server


def _bounds(labels: tuple[str, ...], figure: Figure) -> Iterator[Sample]:
    for bound in ("value", "low", "high"):
        percent = getattr(figure, bound)
        yield (*labels, bound), None if percent is None else percent / 100


def _seconds(iso: str) -> float:
    return datetime.fromisoformat(iso).timestamp()

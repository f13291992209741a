"""Prometheus exporter of the registry. Replicas publish drift themselves (`replica_metrics`).

registry.json is read at every scrape; the champion's bundle is opened again only if its version or hash changes, and
all files are compared with their checksums every ten minutes. Hashing on a slow share may take longer than Prometheus
waits, so `BackgroundValue` does it in a thread, once at a time.
"""

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from cxr_platform.domain.interval import Interval
from cxr_platform.domain.operating_point import DecisionRates
from cxr_platform.errors import RegistryError, ServingError
from cxr_platform.labels import CLASSES
from cxr_platform.monitoring import names
from cxr_platform.monitoring.reference import Reference, parse_reference
from cxr_platform.registry.bundle import REFERENCE, Bundle, read_bundle, read_member
from cxr_platform.registry.state import RegistryState
from cxr_platform.registry.store import Registry

VERIFY_SECONDS = 600.0
REOPEN_SECONDS = 60.0
"""Time between attempts to open a champion that could not be opened."""

PATIENCE_SECONDS = 2.0
"""Longest wait of a scrape for hashing; Prometheus waits for ten seconds in all."""

log = logging.getLogger(__name__)
Family = CounterMetricFamily | GaugeMetricFamily
Opened = tuple[Bundle, Reference]
T = TypeVar("T")
LabelledValue = tuple[tuple[str, ...], float | None]


class RegistryCollector(Collector):
    """Metrics of the registry at `root`; only `cxr_registry_readable 0` if registry.json cannot be read."""

    def __init__(self, root: Path) -> None:
        self._registry = Registry(root)
        self._lock = threading.Lock()
        self._champion_opened: tuple[str, BackgroundValue[Opened | None]] | None = None
        self._broken = BackgroundValue(self._count_broken, lambda _: VERIFY_SECONDS)

    def describe(self) -> list[Any]:
        """Return nothing: there are no values before the first scrape."""
        return []

    def collect(self) -> Iterator[Family]:
        """Yield one family per metric of the exporter."""
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
        yield family(names.REGISTRY_BROKEN, ((), self._broken.get()))

    def _champion(self, version: str, state: RegistryState) -> Iterator[Family]:
        opened = self._opening(version, state.versions[version].sha256).get()
        if opened is None:
            return
        bundle, reference = opened
        about = (version, bundle.strategy, str(bundle.synthetic).lower())
        yield family(names.CHAMPION_INFO, (about, 1))
        yield family(names.CHAMPION_CREATED, ((version,), bundle.created.timestamp()))
        yield family(names.CHAMPION_EFFECTIVE, ((version,), state.history[-1].effective_at.timestamp()))
        point = bundle.operating_point
        yield family(names.CHAMPION_SENSITIVITY, *_bounds((version,), point.sensitivity))
        yield family(names.CHAMPION_SPECIFICITY, *_bounds((version,), point.specificity))
        yield family(
            names.CHAMPION_DECISIONS,
            *(
                s
                for name in DecisionRates.model_fields
                for s in _bounds((version, name), getattr(point.decisions, name))
            ),
        )
        yield family(names.REFERENCE_LABELS, *(((label, version), reference.labels[label]) for label in CLASSES))

    def _opening(self, version: str, sha256: str) -> "BackgroundValue[Opened | None]":
        """Return the opened champion, the same for the same hash; opening is repeated only after a failure."""
        with self._lock:
            if self._champion_opened is None or self._champion_opened[0] != sha256:
                self._champion_opened = sha256, BackgroundValue(partial(self._open, version, sha256), _opened_for)
            return self._champion_opened[1]

    def _open(self, version: str, sha256: str) -> Opened | None:
        folder = self._registry.root / version
        try:
            bundle = read_bundle(folder, sha256)
            return bundle, parse_reference(read_member(folder, bundle, REFERENCE), str(folder / REFERENCE))
        except RegistryError:
            self._broken.expire()
            return None

    def _count_broken(self) -> int:
        return sum(check.problem is not None for check in self._registry.verify())


class BackgroundValue(Generic[T]):
    """The last result of `work()`, which runs in a thread, once at a time, if it is older than `fresh_seconds(result)`.

    An exception is logged; the last result stays, and the next `get` runs `work` again.
    """

    def __init__(self, work: Callable[[], T], fresh_seconds: Callable[[T], float]) -> None:
        self._work, self._fresh_seconds = work, fresh_seconds
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._known: tuple[T, float] | None = None
        self._expired = False

    def get(self) -> T | None:
        """Return the last result, or a new one that is ready within `PATIENCE_SECONDS`; `None` before the first."""
        with self._lock:
            if self._thread is None and self._is_old():
                self._thread = threading.Thread(target=self._run, daemon=True, name="cxr-exporter")
                self._thread.start()
            thread = self._thread
        if thread is not None:
            thread.join(PATIENCE_SECONDS)
        return None if self._known is None else self._known[0]

    def expire(self) -> None:
        """Treat the last result, and one in progress, as old."""
        self._expired = True

    def _is_old(self) -> bool:
        if self._known is None or self._expired:
            return True
        value, at = self._known
        return time.monotonic() - at >= self._fresh_seconds(value)

    def _run(self) -> None:
        self._expired = False
        try:
            self._known = self._work(), time.monotonic()
        except Exception:
            log.exception("The state of the registry could not be updated")
            self._expired = True
        finally:
            self._thread = None


def _opened_for(opened: Opened | None) -> float:
    return REOPEN_SECONDS if opened is None else math.inf


def family(metric: names.Metric, *samples: LabelledValue) -> Family:
    """Return `metric` with its samples, each the values of its labels and a value; samples of `None` are omitted."""
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    samples_of_metric: Family = kind(metric.name, metric.help, labels=metric.labels)
    for labels, value in samples:
        if value is not None:
            samples_of_metric.add_metric(labels, value)
    return samples_of_metric


def serve_registry(root: Path, host: str, port: int) -> Any:
    """Serve GET /metrics at `host`:`port` in a thread and return the server; raise `ServingError` for a taken port."""
    collectors = CollectorRegistry()
    collectors.register(RegistryCollector(root))
    try:
        server, _ = start_http_server(port, host, collectors)
    except OSError as error:
        raise ServingError(
            f"Expected to listen on {host}:{port}.", received=error.strerror or error, advice="Give another --port."
        ) from error
    return server


def _bounds(labels: tuple[str, ...], interval: Interval) -> Iterator[LabelledValue]:
    for bound in ("value", "low", "high"):
        percent = getattr(interval, bound)
        yield (*labels, bound), None if percent is None else percent / 100

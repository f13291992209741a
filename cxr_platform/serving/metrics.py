"""What a replica counts, and the proxy of what it answers itself, by the names of `monitoring.names`."""

from collections.abc import Sequence
from typing import Any, Protocol

from cxr_platform.monitoring import names
from cxr_platform.monitoring.names import Metric
from cxr_platform.monitoring.reference import Reference
from cxr_platform.serving.screener import Screening

STAGES = ("upload", "waiting", "decode", "inference", "explanation", "total")


class Metrics(Protocol):
    """Where a replica's counts go."""

    def request(self, route: str, status: int) -> None:
        """A request was answered; `route` is one of the application's, never the path that came."""

    def stage(self, stage: str, seconds: float) -> None:
        """`seconds` were spent in one of `STAGES`."""

    def screened(self, screening: Screening, version: str) -> None:
        """An image was answered."""

    def refused(self, reason: str) -> None:
        """A file was no image; `reason` is a code of `problems`."""

    def waiting(self, requests: int) -> None:
        """So many requests were taken in by this replica and are not answered yet."""

    def serving(self, version: str, reference: Reference, refused: Sequence[str]) -> None:
        """The version that answers now, and the champions that cannot be loaded. Said again whenever it is known."""

    def waits_for_model(self, refused: Sequence[str]) -> None:
        """No version answers yet; the champions that cannot be loaded. Said again as long as that is so."""


class NoMetrics:
    """Counts nothing: for use without Ray."""

    def request(self, route: str, status: int) -> None:
        """See `Metrics`."""

    def stage(self, stage: str, seconds: float) -> None:
        """See `Metrics`."""

    def screened(self, screening: Screening, version: str) -> None:
        """See `Metrics`."""

    def refused(self, reason: str) -> None:
        """See `Metrics`."""

    def waiting(self, requests: int) -> None:
        """See `Metrics`."""

    def serving(self, version: str, reference: Reference, refused: Sequence[str]) -> None:
        """See `Metrics`."""

    def waits_for_model(self, refused: Sequence[str]) -> None:
        """See `Metrics`."""


class ProxyCount:
    """Counts what Serve's proxy answers itself: refusals that no replica hears of, a full queue among them.

    The counter is made when it is first needed, so that the proxy's middleware can be made without Ray.
    """

    def __init__(self) -> None:
        self._counter: Any = None

    def __call__(self, route: str, status: int) -> None:
        """See `Metrics.request`."""
        from cxr_platform.monitoring.replica import in_ray

        self._counter = self._counter or in_ray(names.REQUESTS)
        self._counter.inc(1, {"route": route, "status": str(status)})


class RayMetrics:
    """Through `ray.util.metrics`, which Ray exports on each node; a replica's own registry would be read by nobody."""

    def __init__(self) -> None:
        from cxr_platform.monitoring.replica import DriftWatch, Repeated, in_ray

        self._counters = {
            metric.name: in_ray(metric)
            for metric in (
                names.REQUESTS,
                names.REQUEST_SECONDS,
                names.DECISIONS,
                names.PREDICTIONS,
                names.QUALITY_REFUSALS,
                names.INTAKE_REFUSALS,
            )
        }
        self._queued, self._info, self._not_taken = map(
            in_ray, (names.QUEUED_REQUESTS, names.MODEL_INFO, names.REFUSED_VERSIONS)
        )
        self._waiting, self._version, self._refused_versions = 0, "", 0
        self._watch: DriftWatch | None = None
        self._repeated = Repeated(self._publish)

    def request(self, route: str, status: int) -> None:
        """See `Metrics`."""
        self._count(names.REQUESTS, route=route, status=str(status))

    def stage(self, stage: str, seconds: float) -> None:
        """See `Metrics`."""
        self._counters[names.REQUEST_SECONDS.name].observe(seconds, {"stage": stage})

    def screened(self, screening: Screening, version: str) -> None:
        """See `Metrics`."""
        self._count(names.DECISIONS, decision=screening.decision, version=version)
        self._count(names.PREDICTIONS, label=screening.label, version=version)
        for finding in screening.findings:
            self._count(names.QUALITY_REFUSALS, reason=finding.code, version=version)
        if self._watch is not None and version == self._version:
            self._watch.add(screening.observation)

    def refused(self, reason: str) -> None:
        """See `Metrics`."""
        self._count(names.INTAKE_REFUSALS, reason=reason)

    def waiting(self, requests: int) -> None:
        """See `Metrics`."""
        self._waiting = requests

    def serving(self, version: str, reference: Reference, refused: Sequence[str]) -> None:
        """See `Metrics`."""
        from cxr_platform.monitoring.replica import DriftWatch

        self._refused_versions = len(refused)
        if version != self._version:
            if self._watch is not None:
                self._watch.stop()
            self._version, self._watch = version, DriftWatch(reference, version)

    def waits_for_model(self, refused: Sequence[str]) -> None:
        """See `Metrics`."""
        self._refused_versions = len(refused)

    def _count(self, metric: Metric, **tags: str) -> None:
        self._counters[metric.name].inc(1, tags)

    def _publish(self) -> None:
        self._queued.set(self._waiting)
        self._not_taken.set(self._refused_versions)
        if self._version:
            self._info.set(1, {"version": self._version})

"""What replicas and proxies count, under the names of `monitoring.names`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cxr_platform.monitoring import names
from cxr_platform.monitoring.names import Metric
from cxr_platform.monitoring.reference import Reference
from cxr_platform.serving.screener import Screener, Screening

STAGES = ("upload", "waiting", "decode", "inference", "explanation", "total")
"""Stages of a request whose duration is measured."""


class ServingMetrics:
    """Receives what a replica counts. This base class ignores everything, for use without Ray."""

    def observe_stage(self, stage: str, seconds: float) -> None:
        """Record the duration of one of `STAGES`."""

    def count_screening(self, screening: Screening, version: str) -> None:
        """Count a screened image."""

    def count_shadow(self, champion: str, decision: str, challenger: Screener, screening: Screening) -> None:
        """Count the decision of version `champion` for an image, and the challenger's result for it."""

    def count_shadow_skip(self, reason: str) -> None:
        """Count an image that the challenger did not screen."""

    def count_refusal(self, reason: str) -> None:
        """Count a file that is not a usable image; `reason` is a key of `problems.PROBLEM_TYPES`."""

    def count_dicom_end(self, cause: str) -> None:
        """Count that the process that decodes DICOM ended, or did not start; `cause` is a label of `DICOM_ENDS`."""

    def set_waiting(self, requests: int) -> None:
        """Set the number of requests that this replica has accepted and not answered."""

    def set_version(self, version: str, reference: Reference, refused: Sequence[str]) -> None:
        """Set the version that answers, and the champions that cannot be loaded. Called after every poll."""

    def set_no_version(self, refused: Sequence[str]) -> None:
        """Set the champions that cannot be loaded while no version answers. Called after every poll."""


class RayMetrics(ServingMetrics):
    """Exports through `ray.util.metrics`: Ray collects these on each node, a registry of the replica's own not."""

    def __init__(self) -> None:
        from cxr_platform.monitoring.replica_metrics import DriftWatch, Repeated, in_ray

        counted = (
            names.REQUEST_SECONDS,
            names.DECISIONS,
            names.PREDICTIONS,
            names.QUALITY_REFUSALS,
            names.INTAKE_REFUSALS,
            names.DICOM_ENDS,
            names.SHADOW_DECISIONS,
            names.SHADOW_SKIPPED,
        )
        self._metrics = {metric.name: in_ray(metric) for metric in counted}
        gauges = (names.QUEUED_REQUESTS, names.MODEL_INFO, names.REFUSED_VERSIONS)
        self._queued, self._model_info, self._refused = map(in_ray, gauges)
        self._waiting, self._version, self._refused_versions = 0, "", 0
        self._drift: DriftWatch | None = None
        self._challenger: tuple[str, DriftWatch] | None = None
        self._publishing = Repeated(self.publish)

    def observe_stage(self, stage: str, seconds: float) -> None:
        """See `ServingMetrics`."""
        self._metrics[names.REQUEST_SECONDS.name].observe(seconds, {"stage": stage})

    def count_screening(self, screening: Screening, version: str) -> None:
        """Count the decision, the most probable class and the findings; add the image to the drift window."""
        self._count(names.DECISIONS, decision=screening.decision, version=version)
        self._count(names.PREDICTIONS, label=screening.label, version=version)
        for finding in screening.findings:
            self._count(names.QUALITY_REFUSALS, reason=finding.code, version=version)
        if self._drift is not None and version == self._version:
            self._drift.add(screening.observation)

    def count_shadow(self, champion: str, decision: str, challenger: Screener, screening: Screening) -> None:
        """Count both decisions; add the image to the challenger's own drift window."""
        from cxr_platform.monitoring.replica_metrics import DriftWatch

        version = challenger.bundle.version
        self._count(
            names.SHADOW_DECISIONS,
            version=champion,
            challenger=version,
            decision=decision,
            challenger_decision=screening.decision,
        )
        if version == self._version:  # it has just been promoted, and has a window as the champion
            return
        if self._challenger is None:
            self._challenger = version, DriftWatch(challenger.reference, version)
        self._challenger[1].add(screening.observation)

    def count_shadow_skip(self, reason: str) -> None:
        """See `ServingMetrics`."""
        self._count(names.SHADOW_SKIPPED, reason=reason)

    def count_refusal(self, reason: str) -> None:
        """See `ServingMetrics`."""
        self._count(names.INTAKE_REFUSALS, reason=reason)

    def count_dicom_end(self, cause: str) -> None:
        """See `ServingMetrics`."""
        self._count(names.DICOM_ENDS, cause=cause)

    def set_waiting(self, requests: int) -> None:
        """See `ServingMetrics`."""
        self._waiting = requests

    def set_version(self, version: str, reference: Reference, refused: Sequence[str]) -> None:
        """Set the version; a new one starts a new drift window."""
        from cxr_platform.monitoring.replica_metrics import DriftWatch

        self._refused_versions = len(refused)
        if version != self._version:
            if self._drift is not None:
                self._drift.stop()
            if self._challenger is not None and self._challenger[0] == version:
                self._challenger[1].stop()  # the drift of one version has one window
                self._challenger = None
            self._version, self._drift = version, DriftWatch(reference, version)

    def set_no_version(self, refused: Sequence[str]) -> None:
        """See `ServingMetrics`."""
        self._refused_versions = len(refused)

    def publish(self) -> None:
        """Set the gauges. Called again and again, because Ray drops a gauge that is not set."""
        self._queued.set(self._waiting)
        self._refused.set(self._refused_versions)
        if self._version:
            self._model_info.set(1, {"version": self._version})

    def _count(self, metric: Metric, **tags: str) -> None:
        self._metrics[metric.name].inc(1, tags)


class ProxyMetrics:
    """What a proxy measures: it counts and times all requests, those that replicas answer included.

    The metrics of Ray are created with the first request, so that the middleware can be built without Ray.
    """

    def __init__(self) -> None:
        self._metrics: dict[str, Any] = {}
        self._publishing: object = None

    def count_refusal(self, route: str, status: int) -> None:
        """Count a request that was refused before it was complete."""
        self._in_ray(names.REQUESTS).inc(1, {"route": route, "status": str(status)})

    def add_request(self, route: str, status: int, key: str | None, seconds: float) -> None:
        """Count an answered request and its duration; `route` is a `routes.route_label`, `key` the name of a key."""
        tags = {"route": route, "status": str(status)}
        self._in_ray(names.REQUESTS).inc(1, tags)
        self._in_ray(names.PROXY_SECONDS).observe(seconds, tags)
        if key is not None:
            self._in_ray(names.KEY_REQUESTS).inc(1, {"key": key, "status": str(status)})

    def watch(self, requests: Callable[[], Mapping[str, int]]) -> None:
        """Publish again and again, as Ray drops a gauge that is not set, what `requests` returns by state."""
        if self._publishing is not None:
            return
        from cxr_platform.monitoring.replica_metrics import Repeated

        def publish() -> None:
            for state, count in requests().items():
                self._in_ray(names.PROXY_REQUESTS).set(count, {"state": state})

        self._publishing = Repeated(publish)

    def _in_ray(self, metric: Metric) -> Any:
        from cxr_platform.monitoring.replica_metrics import in_ray

        if metric.name not in self._metrics:
            self._metrics[metric.name] = in_ray(metric)
        return self._metrics[metric.name]

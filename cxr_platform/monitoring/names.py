"""Every metric of the platform: its name, kind, exporter, help text and labels.

Names follow Prometheus' conventions: the suffix is the base unit, `_total` for a counter, or `_info` for a gauge that
is always 1 and only carries labels. To the metrics of replicas Ray adds the prefix `ray_` and the labels WorkerId,
NodeAddress, SessionName and Version, which identify the replica.

Labels: `verb` is the command of a job, `study` the NAME or folder of its study, `version` a version of the registry,
`bound` one of value, low and high of a confidence interval. No label names an image.
"""

from dataclasses import dataclass
from typing import Literal

RAY_PREFIX = "ray_"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Buckets of durations."""


@dataclass(frozen=True)
class Metric:
    """One metric; `buckets` are the upper bounds of a histogram.

    `source` exports it: a Serve replica, a batch job (`job_metrics`; a study also while it runs), or `cxr exporter`.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    source: Literal["replica", "batch", "exporter"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def series(self) -> tuple[str, ...]:
        """Names of its time series in Prometheus: three for a histogram, otherwise one."""
        name = f"{RAY_PREFIX}{self.name}" if self.source == "replica" else self.name
        return tuple(f"{name}_{part}" for part in ("bucket", "sum", "count")) if self.kind == "histogram" else (name,)


REQUESTS = Metric(
    "cxr_requests_total", "counter", "replica", "HTTP requests answered, or left by the client (499)",
    ("route", "status"),
)  # fmt: skip
KEY_REQUESTS = Metric(
    "cxr_key_requests_total", "counter", "replica", "HTTP requests answered, by the name of their API key",
    ("key", "status"),
)  # fmt: skip
REQUEST_SECONDS = Metric(
    "cxr_request_duration_seconds", "histogram", "replica", "Seconds of a request per stage, and in total",
    ("stage",), SECONDS,
)  # fmt: skip
PROXY_SECONDS = Metric(
    "cxr_proxy_request_duration_seconds", "histogram", "replica",
    "Seconds from the headers of a request to the end of its answer, in the proxy", ("route", "status"), SECONDS,
)  # fmt: skip
PROXY_REQUESTS = Metric(
    "cxr_proxy_requests", "gauge", "replica",
    "Requests that a proxy has not answered: upload (body incomplete), waiting (for a replica), forwarded", ("state",),
)  # fmt: skip
QUEUED_REQUESTS = Metric("cxr_queued_requests", "gauge", "replica", "Requests received and not yet answered")
DECISIONS = Metric("cxr_decisions_total", "counter", "replica", "Answers by decision", ("decision", "version"))
PREDICTIONS = Metric(
    "cxr_predictions_total", "counter", "replica", "Answers by most probable class", ("label", "version")
)
QUALITY_REFUSALS = Metric(
    "cxr_quality_refusals_total", "counter", "replica", "Images not screenable, by reason", ("reason", "version")
)
INTAKE_REFUSALS = Metric(
    "cxr_intake_refusals_total", "counter", "replica", "Request bodies that are not an image, by reason", ("reason",)
)
DICOM_ENDS = Metric(
    "cxr_dicom_process_ends_total", "counter", "replica",
    "Processes that decode DICOM and ended, by cause: crash, killed, memory, time, late, exit, start", ("cause",),
)  # fmt: skip
MODEL_INFO = Metric("cxr_model_info", "gauge", "replica", "1 for the version in use", ("version",))
REFUSED_VERSIONS = Metric(
    "cxr_model_refused_versions", "gauge", "replica", "Champions that cannot be loaded; an older version answers"
)
DRIFT_PSI = Metric(
    "cxr_drift_psi", "gauge", "replica", "Population stability index of the replica's window against the bundle",
    ("quantity", "version"),
)  # fmt: skip
DRIFT_KS = Metric(
    "cxr_drift_ks", "gauge", "replica", "Kolmogorov-Smirnov statistic of the replica's window against the bundle",
    ("quantity", "version"),
)  # fmt: skip
DRIFT_WINDOW = Metric(
    "cxr_drift_window_images", "gauge", "replica", "Images in the replica's window", ("quantity", "version")
)

SHADOW_DECISIONS = Metric(
    "cxr_shadow_decisions_total", "counter", "replica",
    "Images by the decision of the version that answered and that of the challenger, which no client sees",
    ("version", "challenger", "decision", "challenger_decision"),
)  # fmt: skip
SHADOW_SKIPPED = Metric(
    "cxr_shadow_skipped_images_total", "counter", "replica",
    "Images that the challenger did not screen: queue-full, other-intake, failed, not-loaded", ("reason",),
)  # fmt: skip

JOB_SECONDS = Metric("cxr_job_duration_seconds", "gauge", "batch", "Seconds the job took", ("verb", "study"))
JOB_FINISHED = Metric(
    "cxr_job_finished_timestamp_seconds", "gauge", "batch", "When the job ended (Unix time)", ("verb", "study")
)
JOB_SUCCESS = Metric("cxr_job_success", "gauge", "batch", "1 if the job succeeded, else 0", ("verb", "study"))
MANIFEST_IMAGES = Metric(
    "cxr_manifest_images", "gauge", "batch", "Images in the manifest", ("study", "label", "source")
)
MANIFEST_EXCLUDED = Metric(
    "cxr_manifest_excluded_files", "gauge", "batch", "Excluded files, by reason", ("study", "reason")
)
STUDY_TRIALS = Metric("cxr_study_trials", "gauge", "batch", "Trials by state", ("study", "state"))
STUDY_ACCURACY = Metric(
    "cxr_study_accuracy_ratio", "gauge", "batch", "Out-of-fold 7-class accuracy, 0 to 1", ("study", "strategy")
)
STUDY_BEST_ACCURACY = Metric(
    "cxr_study_best_accuracy_ratio",
    "gauge",
    "batch",
    "Highest out-of-fold 7-class accuracy of all strategies, 0 to 1",
    ("study", "strategy"),
)
STUDY_PROGRESS = Metric(
    "cxr_study_progress_timestamp_seconds", "gauge", "batch",
    "When a running study last finished an epoch or a trial (Unix time); absent once its trials have ended", ("study",),
)  # fmt: skip
STUDY_PACE = Metric(
    "cxr_study_progress_interval_seconds", "gauge", "batch",
    "Longest seconds between two of the last 100 such reports of a running study; 0 before the second", ("study",),
)  # fmt: skip
CHAMPION_IMAGES = Metric(
    "cxr_champion_images", "gauge", "batch", "Images that the champion was trained on", ("study", "strategy")
)
CHAMPION_EPOCHS = Metric(
    "cxr_champion_epochs", "gauge", "batch", "Epochs that the champion was trained for", ("study", "strategy")
)
CHAMPION_ACCURACY = Metric(
    "cxr_champion_accuracy_ratio", "gauge", "batch", "Out-of-fold 7-class accuracy, 0 to 1", ("study", "strategy")
)

REGISTRY_READABLE = Metric("cxr_registry_readable", "gauge", "exporter", "1 if registry.json can be read, else 0")
REGISTRY_VERSIONS = Metric("cxr_registry_versions", "gauge", "exporter", "Versions in the registry")
REGISTRY_BROKEN = Metric("cxr_registry_broken_versions", "gauge", "exporter", "Versions with a changed or missing file")
REGISTRY_CHANGES = Metric(
    "cxr_registry_changes_total", "counter", "exporter", "Promotions and rollbacks so far", ("action", "forced")
)
CHAMPION_INFO = Metric(
    "cxr_registry_champion_info", "gauge", "exporter", "1 for the champion", ("version", "strategy", "synthetic")
)
CHAMPION_CREATED = Metric(
    "cxr_registry_champion_created_timestamp_seconds",
    "gauge",
    "exporter",
    "When the bundle of the champion was made (Unix time)",
    ("version",),
)
CHAMPION_EFFECTIVE = Metric(
    "cxr_registry_champion_effective_timestamp_seconds",
    "gauge",
    "exporter",
    "When servers start to use the champion (Unix time)",
    ("version",),
)
CHAMPION_SENSITIVITY = Metric(
    "cxr_registry_champion_sensitivity_ratio", "gauge", "exporter",
    "Out-of-fold Covid19 sensitivity of the threshold alone, with its 95 % interval", ("version", "bound"),
)  # fmt: skip
CHAMPION_SPECIFICITY = Metric(
    "cxr_registry_champion_specificity_ratio", "gauge", "exporter",
    "Out-of-fold Covid19 specificity of the threshold alone, with its 95 % interval", ("version", "bound"),
)  # fmt: skip
CHAMPION_DECISIONS = Metric(
    "cxr_registry_champion_decisions_ratio", "gauge", "exporter",
    "Out-of-fold rates of the served decisions, with their 95 % intervals", ("version", "decision", "bound"),
)  # fmt: skip
REFERENCE_LABELS = Metric(
    "cxr_reference_predictions_ratio", "gauge", "exporter",
    "Share of each class in the out-of-fold predictions, 0 to 1", ("label", "version"),
)  # fmt: skip

METRICS: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
"""All metrics, in the order above."""

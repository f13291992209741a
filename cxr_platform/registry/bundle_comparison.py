"""Comparison of two bundles by their out-of-fold metrics: whether the new one would be a worse champion, and why."""

from collections.abc import Mapping
from dataclasses import dataclass

from cxr_platform.domain.interval import Interval
from cxr_platform.domain.operating_point import DecisionRates
from cxr_platform.registry.bundle import Bundle

ROUNDING_POINTS = 0.05
"""A metric that is lower by no more than this, in percentage points, is not worse."""

ACCURACY = "accuracy_7_class"
SENSITIVITY = "sensitivity_at_threshold"
SPECIFICITY = "specificity_at_threshold"
DECISIVE = (ACCURACY, SENSITIVITY, SPECIFICITY)
"""Metrics that must not become worse. Specificity counts only between versions with the same target sensitivity: a
higher target costs specificity."""

TITLES: Mapping[str, str] = {
    ACCURACY: "7-class accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "accuracy_2_class": "Covid19 accuracy by the likeliest class",
    "sensitivity": "Covid19 sensitivity by the likeliest class",
    "specificity": "Covid19 specificity by the likeliest class",
    "roc_auc": "Covid19 ROC AUC",
    "average_precision": "Covid19 average precision",
    "brier": "Brier score, seven classes",
    SENSITIVITY: "Covid19 sensitivity at the threshold",
    SPECIFICITY: "Covid19 specificity at the threshold",
    "true_positive": "Covid19 images called positive",
    "false_negative": "Covid19 images called negative",
    "true_negative": "Other images called negative",
    "false_positive": "Other images called positive",
    "indeterminate": "Indeterminate images",
}


@dataclass(frozen=True)
class ComparedMetric:
    """One metric of both bundles. A `decisive` one can refuse a promotion."""

    name: str
    new: Interval | None
    present: Interval | None
    decisive: bool = False

    @property
    def title(self) -> str:
        """Name of the metric in tables."""
        return TITLES.get(self.name, self.name.replace("_", " "))

    @property
    def worse(self) -> bool:
        """True if a decisive value is lower by more than rounding, or undefined where the present one is not."""
        if not self.decisive or self.present is None or self.present.value is None:
            return False
        if self.new is None or self.new.value is None:
            return True
        return self.present.value - self.new.value > ROUNDING_POINTS + 1e-9


@dataclass(frozen=True)
class BundleComparison:
    """`reasons` say why the new version is worse, `notes` why the metrics are hard to compare."""

    new: str
    present: str | None
    metrics: tuple[ComparedMetric, ...]
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def worse(self) -> bool:
        """True if a promotion needs force."""
        return bool(self.reasons)

    @property
    def verdict(self) -> str:
        """The result in one sentence."""
        if self.present is None:
            return f"{self.new} is the first champion: there is nothing to compare it with."
        if self.worse:
            return f"{self.new} would be a worse champion than {self.present}: {'; '.join(self.reasons)}."
        decisive = [metric.title for metric in self.metrics if metric.decisive]
        return f"{self.new} is no worse than {self.present} in {', '.join(decisive[:-1])} and {decisive[-1]}."


def compare(new: Bundle, present: Bundle | None) -> BundleComparison:
    """Return the out-of-fold metrics of both bundles, and whether those of `new` are worse by more than rounding."""
    ours, theirs = _metrics(new), {} if present is None else _metrics(present)
    same_target = present is None or _target(new) == _target(present)
    decisive = DECISIVE if same_target else tuple(name for name in DECISIVE if name != SPECIFICITY)
    metrics = tuple(
        ComparedMetric(name, ours.get(name), theirs.get(name), name in decisive) for name in {**ours, **theirs}
    )
    if present is None:
        return BundleComparison(new.version, None, metrics)
    reasons = [
        f"{metric.title} {interval_text(metric.new)} against {interval_text(metric.present)}"
        for metric in metrics
        if metric.worse
    ]
    if new.synthetic and not present.synthetic:
        reasons.append("it was trained on synthetic images, the present champion on real ones")
    return BundleComparison(new.version, present.version, metrics, tuple(reasons), tuple(_notes(new, present)))


def interval_text(interval: Interval | None) -> str:
    """Return two decimals of percent, or three of a ratio, with the 95 % interval; a dash where undefined."""
    if interval is None or interval.value is None:
        return "–"
    digits = 3 if interval.ratio else 2
    if interval.low is None or interval.high is None:
        return f"{interval.value:.{digits}f}"
    return f"{interval.value:.{digits}f} ({interval.low:.{digits}f} to {interval.high:.{digits}f})"


def _metrics(bundle: Bundle) -> dict[str, Interval]:
    point = bundle.operating_point
    first = {ACCURACY: bundle.metrics[ACCURACY], SENSITIVITY: point.sensitivity, SPECIFICITY: point.specificity}
    decisions = {name: getattr(point.decisions, name) for name in DecisionRates.model_fields}
    return first | decisions | bundle.metrics


def _target(bundle: Bundle) -> float:
    return bundle.operating_point.target_sensitivity


def _notes(new: Bundle, present: Bundle) -> list[str]:
    pairs = {
        "manifests": (new.study.manifest_hash[:12], present.study.manifest_hash[:12]),
        "protocols": (new.study.protocol, present.study.protocol),
        "strategies": (new.strategy, present.strategy),
        "sensitivity targets": (_target(new), _target(present)),
    }
    meaning = {
        "manifests": "the metrics are of different images",
        "protocols": "the metrics are of different folds; protocol paper allows one patient in several folds",
        "strategies": "the networks were trained in different ways",
        "sensitivity targets": "the thresholds aim at different sensitivities, so specificity does not decide",
    }
    notes = [f"Different {what}, {a} and {b}: {meaning[what]}." for what, (a, b) in pairs.items() if a != b]
    ours, theirs = (bundle.operating_point.decisions.indeterminate for bundle in (new, present))
    if ours.value is not None and theirs.value is not None and ours.value - theirs.value > ROUNDING_POINTS + 1e-9:
        notes.append(f"More images are indeterminate, {interval_text(ours)} against {interval_text(theirs)} %.")
    return notes

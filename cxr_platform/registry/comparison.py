"""Two bundles beside each other: whether the new one would be a worse champion, by which figures."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

from cxr_platform.registry.bundle import Bundle, Decided, Figure
from cxr_platform.registry.bundle_rules import RATIOS

ROUNDING_POINTS = 0.05
"""A figure that is lower by no more than this, in percentage points, is not worse."""

ACCURACY = "accuracy_7_class"
SENSITIVITY = "sensitivity_at_threshold"
SPECIFICITY = "specificity_at_threshold"
UNDECIDED = "undecided"
DECISIVE = (ACCURACY, SENSITIVITY, SPECIFICITY)
"""What may not become worse. Specificity counts where both aim at the same sensitivity: else one is paid for with the
other, and the one that finds more is not worse for leaving fewer images alone."""

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
    "found": "Covid19 images called positive",
    "missed": "Covid19 images called negative",
    "cleared": "Other images called negative",
    "alarmed": "Other images called positive",
    UNDECIDED: "Images left undecided",
}


@dataclass(frozen=True)
class Line:
    """One figure of both; percent, or from 0 up where `ratio`. `decisive` ones can refuse a promotion."""

    name: str
    new: Figure | None
    present: Figure | None
    ratio: bool = False
    decisive: bool = False

    @property
    def title(self) -> str:
        """As people call the figure."""
        return TITLES.get(self.name, self.name.replace("_", " "))

    @property
    def worse(self) -> bool:
        """Whether a decisive value is lower by more than rounding, or undefined where the present one is not."""
        if not self.decisive or self.present is None or self.present.value is None:
            return False
        if self.new is None or self.new.value is None:
            return True
        return self.present.value - self.new.value > ROUNDING_POINTS + 1e-9


@dataclass(frozen=True)
class Comparison:
    """`reasons` speak against the new version; `notes` say what makes the figures hard to compare."""

    new: str
    present: str | None
    lines: tuple[Line, ...]
    reasons: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def worse(self) -> bool:
        """Whether a promotion needs force."""
        return bool(self.reasons)

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.present is None:
            return f"{self.new} is the first champion: there is nothing to compare it with."
        if self.worse:
            return f"{self.new} would be a worse champion than {self.present}: {'; '.join(self.reasons)}."
        decisive = [line.title for line in self.lines if line.decisive]
        return f"{self.new} is no worse than {self.present} in {', '.join(decisive[:-1])} and {decisive[-1]}."


def compare(new: Bundle, present: Bundle | None) -> Comparison:
    """The out-of-fold figures of both, and whether those of `new` are worse by more than rounding."""
    ours, theirs = _figures(new), {} if present is None else _figures(present)
    decisive = _decisive(new, present)
    lines = tuple(
        Line(name, ours.get(name), theirs.get(name), name in RATIOS, name in decisive) for name in {**ours, **theirs}
    )
    if present is None:
        return Comparison(new.version, None, lines, (), ())
    reasons = [_reason(line) for line in lines if line.worse]
    if new.synthetic and not present.synthetic:
        reasons.append("it was trained on synthetic images, the present champion on real ones")
    return Comparison(new.version, present.version, lines, tuple(reasons), tuple(_notes(new, present)))


def shown(figure: Figure | None, ratio: bool) -> str:
    """A figure as people read it: two decimals of percent or three of a ratio, with its interval."""
    if figure is None or figure.value is None:
        return "–"
    digits = 3 if ratio else 2
    if figure.low is None or figure.high is None:
        return f"{figure.value:.{digits}f}"
    return f"{figure.value:.{digits}f} ({figure.low:.{digits}f} to {figure.high:.{digits}f})"


def _figures(bundle: Bundle) -> dict[str, Figure]:
    point = bundle.operating_point
    first = {ACCURACY: bundle.metrics[ACCURACY], SENSITIVITY: point.sensitivity, SPECIFICITY: point.specificity}
    served = {part.name: getattr(point.decided, part.name) for part in fields(Decided)}
    return first | served | dict(bundle.metrics)


def _decisive(new: Bundle, present: Bundle | None) -> tuple[str, ...]:
    same = present is None or _target(new) == _target(present)
    return DECISIVE if same else tuple(name for name in DECISIVE if name != SPECIFICITY)


def _target(bundle: Bundle) -> float:
    return bundle.operating_point.target_sensitivity


def _reason(line: Line) -> str:
    return f"{line.title} {shown(line.new, line.ratio)} against {shown(line.present, line.ratio)}"


def _notes(new: Bundle, present: Bundle) -> list[str]:
    pairs = {
        "manifests": (new.study.manifest_hash[:12], present.study.manifest_hash[:12]),
        "protocols": (new.study.protocol, present.study.protocol),
        "strategies": (new.strategy, present.strategy),
        "sensitivity targets": (_target(new), _target(present)),
    }
    meaning = {
        "manifests": "the figures are of different images",
        "protocols": "the figures are of different folds; paper lets a patient stand on both sides",
        "strategies": "the networks were trained in different ways",
        "sensitivity targets": "the thresholds aim at different sensitivities, and specificity does not decide",
    }
    differences = [f"Different {what}, {a} and {b}: {meaning[what]}." for what, (a, b) in pairs.items() if a != b]
    return [
        *differences,
        *_less_decided(new.operating_point.decided.undecided, present.operating_point.decided.undecided),
    ]


def _less_decided(new: Figure, present: Figure) -> Iterator[str]:
    """The threshold's figures, which decide, say nothing of the images that are left undecided around it."""
    if new.value is not None and present.value is not None and new.value - present.value > ROUNDING_POINTS + 1e-9:
        yield f"It leaves more images undecided, {shown(new, False)} against {shown(present, False)} %."

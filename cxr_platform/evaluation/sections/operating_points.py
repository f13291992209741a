"""Words and tables of the operating points, a part of the section on calibration."""

from collections.abc import Sequence

from cxr_platform.evaluation.formatting import ABSENT, NBSP, Value, rate, text
from cxr_platform.evaluation.metrics import Metrics
from cxr_platform.evaluation.statistics.thresholds import ThresholdPerformance
from cxr_platform.evaluation.table import Row, Table

NOTE = (
    "Each image is judged by a threshold, on its Covid19 probability after scaling, that was chosen on the other folds: "
    "the highest that finds the target's share of their Covid19 images. The intervals take the thresholds as they are. "
    "Change of specificity: against calling an image Covid19 where that is its likeliest class; below 0 is the cost."
)
FOR_USE_NOTE = (
    "The line for use was chosen on all images, and no image is left that could judge it; what to expect of it is what "
    "the thresholds of the folds reached. It belongs to these networks and to images like these."
)


def operating_lead(points: Sequence[ThresholdPerformance]) -> str:
    """What the middle target costs."""
    point = points[len(points) // 2]
    if point.sensitivity.value is None:
        return "No fold has both Covid19 images to judge on and others to choose a threshold on: no operating point."
    return (
        f"A threshold meant to find {_share(point.target)} of Covid19 images finds {rate(point.sensitivity)} of those "
        f"in folds that it was not chosen on, at {rate(point.specificity)} specificity."
    )


def operating_tables(
    points: Sequence[ThresholdPerformance], likeliest: Metrics, synthetic: bool
) -> tuple[Table, Table]:
    """What the thresholds reach, and the thresholds themselves; `likeliest` are the figures without a threshold."""
    without = Row(("none: likeliest class",), (None, likeliest.sensitivity, likeliest.specificity, None))
    rows = [Row((_share(p.target),), (_range(p), p.sensitivity, p.specificity, p.change)) for p in points]
    columns = ("thresholds of the folds", "sensitivity (%)", "specificity (%)", "change of specificity (points)")
    title = "Operating points for Covid19"
    shown = Table("operating-points", title, ("Sensitivity aimed at",), columns, (without, *rows), NOTE, synthetic)
    return shown, _thresholds(points, synthetic)


def _thresholds(points: Sequence[ThresholdPerformance], synthetic: bool) -> Table:
    folds = len(points[0].by_fold)
    rows = [Row((f"fold {k}, chosen on the others",), _choices(points, k)) for k in range(folds)]
    rows.append(Row(("for use, chosen on all folds",), _choices(points, None), "total"))
    columns = ("temperature", *(f"threshold for {_share(p.target)}" for p in points))
    return Table("thresholds", "Thresholds", ("Applied to",), columns, tuple(rows), FOR_USE_NOTE, synthetic)


def _choices(points: Sequence[ThresholdPerformance], fold: int | None) -> tuple[Value, ...]:
    choices = [point.for_use if fold is None else point.by_fold[fold] for point in points]
    return f"{choices[0].temperature:.4f}", *(_threshold(c.threshold) for c in choices)


def _range(point: ThresholdPerformance) -> str:
    known = [c.threshold for c in point.by_fold if c.threshold is not None]
    return f"{_threshold(min(known))} to {_threshold(max(known))}" if known else ABSENT


def _threshold(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.4f}"


def _share(target: float) -> str:
    return f"{text(round(100 * target))}{NBSP}%"

"""Calibration of the probabilities, and operating points: thresholds on the Covid19 probability for a target
sensitivity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.findings import OVERCONFIDENT, CalibrationFinding
from cxr_platform.evaluation.formatting import ABSENT, NBSP, Value, rate, text
from cxr_platform.evaluation.metrics import Metrics
from cxr_platform.evaluation.pictures import BLUE, INK, VERMILION, Picture, canvas, mark, to_png
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.statistics.bootstrap import study_bootstrap
from cxr_platform.evaluation.statistics.calibration import (
    Bin,
    Calibration,
    Reliability,
    calibrate,
    cross_scaled,
    reliability,
)
from cxr_platform.evaluation.statistics.thresholds import ThresholdPerformance, cross_fitted_thresholds
from cxr_platform.evaluation.table import Row, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME, TITLE = "calibration", "Are the probabilities calibrated?"
FEW = 20
"""Images below which a bin of a reliability diagram is drawn hollow."""
UNSCALED, SCALED = "as trained", "after scaling"

METHOD = (
    "Temperature scaling divides the network's logits by one number (Guo et al. 2017). The temperature of each fold "
    "was fitted on the images of the other folds, so that no image is judged by a number that it helped to choose. "
    "Scaling changes the probabilities, but never which class is the likeliest."
)
QUALITY_NOTE = (
    "ECE is the expected calibration error: the gap between predicted probability and observed frequency in ten bins "
    "of equal width, averaged over images; 0 is best. Chance alone makes it larger, the more so the fewer images there "
    "are, and near 0 its interval is too narrow. Brier score: squared distance from the truth, 0 to 2 for seven "
    "classes, 0 to 1 for Covid19 alone. Log loss in nats. Temperature: mean over folds, with their range."
)
OPERATING_NOTE = (
    "Each image is judged by a threshold on its Covid19 probability after scaling that was chosen on the other folds: "
    "the highest threshold that detects the target share of their Covid19 images. The intervals take the thresholds as "
    "fixed. Change of specificity: compared with calling an image Covid19 if that is its likeliest class; negative "
    "values are the cost."
)
THRESHOLDS_NOTE = (
    "The threshold for use was chosen on all images, so that no image is left to evaluate it; expect what the "
    "thresholds of the folds achieve. It is valid for these networks and for images like these."
)


@dataclass(frozen=True)
class CalibrationResults:
    """Calibration of all strategies, best strategy first; reliability and operating points of the winner."""

    strategies: tuple[Calibration, ...]
    before: Reliability
    after: Reliability
    points: tuple[ThresholdPerformance, ...]

    @property
    def finding(self) -> CalibrationFinding:
        """The winner's temperature and calibration errors."""
        winner = self.strategies[0]
        return CalibrationFinding(winner.strategy, winner.temperature, winner.before.top_ece, winner.after.top_ece)


def compute(inputs: ReportInputs) -> CalibrationResults:
    """Return the calibration of every strategy, and the reliability and operating points of the winner."""
    predictions, winner = inputs.predictions, inputs.results.decision.winner
    bootstrap = study_bootstrap(inputs.study, predictions)
    _, scaled = cross_scaled(predictions, winner)
    return CalibrationResults(
        tuple(calibrate(predictions, r.strategy, bootstrap) for r in inputs.results.ranking),
        reliability(predictions.label, predictions.probability[winner], bootstrap),
        reliability(predictions.label, scaled, bootstrap),
        cross_fitted_thresholds(predictions, winner, bootstrap),
    )


def render(inputs: ReportInputs, results: CalibrationResults) -> Section:
    """Show reliability diagrams and operating points of the winner, and the calibration of all strategies."""
    winner, synthetic = results.strategies[0], inputs.synthetic
    shown, before, after = TITLES[winner.strategy], results.before, results.after
    top = ("reliability-likeliest-class", f"{shown}: likeliest class", "of the likeliest class")
    covid = ("reliability-covid19", f"{shown}: Covid19", "of Covid19")
    return Section(
        NAME,
        TITLE,
        lead=(_calibration_sentence(winner), METHOD, _operating_sentence(results.points)),
        pictures=(
            reliability_plot(*top, before.top, after.top, synthetic=synthetic),
            reliability_plot(*covid, before.covid, after.covid, synthetic=synthetic),
        ),
        tables=(
            *_calibration_tables(results.strategies, synthetic),
            _operating_table(results.points, inputs.results.best.pooled, synthetic),
        ),
        folded=(_thresholds_table(results.points, synthetic),),
        values={
            "strategies": {c.strategy: {**asdict(c), "temperature": c.temperature} for c in results.strategies},
            "reliability": {"before": asdict(before), "after": asdict(after)},
            "operating_points": [asdict(point) for point in results.points],
        },
    )


def reliability_plot(
    name: str, title: str, of_class: str, before: Sequence[Bin], after: Sequence[Bin], *, synthetic: bool
) -> Picture:
    """Draw the observed frequency against the predicted probability, before and after temperature scaling.

    `of_class` says which probability it is, as in "of the likeliest class".
    """
    with canvas(5.6, synthetic=synthetic) as (figure, axes):
        axes.plot([0, 100], [0, 100], color=INK, linestyle=":", label="perfect")
        _draw_bins(axes, before, VERMILION, "s", UNSCALED)
        _draw_bins(axes, after, BLUE, "o", SCALED)
        axes.set(xlim=(-2, 102), ylim=(-2, 102), aspect="equal")
        axes.set(xlabel=f"Predicted probability {of_class} (%)", ylabel="Observed frequency (% of images)")
        axes.set_title(title, loc="left", pad=10)
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=10.5, columnspacing=1.2)
        png = to_png(figure)
    caption = (
        f"Images in ten bins of predicted probability {of_class}, and the observed frequency with its 95 % "
        "confidence interval. On the dotted line the two agree; below it the network is overconfident. Hollow: fewer "
        f"than {FEW} images."
    )
    alt = f"{mark(synthetic)}Reliability diagram, predicted probability {of_class} in percent."
    for label, bins in ((UNSCALED, before), (SCALED, after)):
        parts = (f"{text(100 * b.stated)} predicted, {text(b.observed)} observed of {b.images:,} images" for b in bins)
        alt += f" {label.capitalize()}: {'; '.join(parts)}."
    return Picture(name, caption, alt, png)


def _draw_bins(axes: Axes, bins: Sequence[Bin], colour: str, marker: str, label: str) -> None:
    predicted = [100 * b.stated for b in bins]
    observed = [float("nan") if b.observed.value is None else b.observed.value for b in bins]
    for x, y, shown in zip(predicted, observed, bins, strict=True):
        low, high = shown.observed.low, shown.observed.high
        if low is not None and high is not None:
            axes.plot([x, x], [low, high], color=colour, linewidth=1.8, alpha=0.7)
        fill = "white" if shown.images < FEW else colour
        axes.plot([x], [y], marker, color=colour, markerfacecolor=fill, zorder=3)
    joined = [(x, y) for x, y, shown in zip(predicted, observed, bins, strict=True) if shown.images >= FEW]
    axes.plot([x for x, _ in joined], [y for _, y in joined], color=colour, linewidth=1, alpha=0.5)
    axes.plot([], [], marker, color=colour, label=label)


def _calibration_sentence(winner: Calibration) -> str:
    temperature = winner.temperature
    if temperature > OVERCONFIDENT:
        judged = "is overconfident"
    else:
        judged = "is underconfident" if temperature < 1 / OVERCONFIDENT else "is neither over- nor underconfident"
    return (
        f"{TITLES[winner.strategy]} {judged}: temperature {text(temperature)} (1 changes nothing), expected "
        f"calibration error {text(winner.before.top_ece)} as trained and {text(winner.after.top_ece)} after scaling."
    )


def _operating_sentence(points: Sequence[ThresholdPerformance]) -> str:
    """State what the middle target achieves."""
    point = points[len(points) // 2]
    if point.sensitivity.value is None:
        return (
            "There is no operating point: no fold has both Covid19 images to evaluate a threshold on and Covid19 "
            "images in other folds to choose it on."
        )
    return (
        f"A threshold chosen to detect {_whole_percent(point.target)} of Covid19 images detects "
        f"{rate(point.sensitivity)} of those in folds that it was not chosen on, at {rate(point.specificity)} "
        "specificity."
    )


def _calibration_tables(strategies: Sequence[Calibration], synthetic: bool) -> tuple[Table, Table]:
    """Return two tables of all strategies, as trained and after scaling: likeliest class, and Covid19 alone."""
    top, covid = [], []
    for strategy in strategies:
        low, high = min(strategy.temperatures), max(strategy.temperatures)
        temperature = f"{text(strategy.temperature)} ({text(low)} to {text(high)})"
        for kind, shown, quality in ((UNSCALED, None, strategy.before), (SCALED, temperature, strategy.after)):
            labels = (TITLES[strategy.strategy], kind)
            top.append(Row(labels, (shown, quality.top_ece, quality.brier, quality.log_loss)))
            covid.append(Row(labels, (quality.covid_ece, quality.covid_brier)))
    headers, columns = ("Strategy", "Probabilities"), ("temperature", "ECE", "Brier score", "log loss")
    return (
        Table("calibration", "Calibration", headers, columns, tuple(top), QUALITY_NOTE, synthetic),
        Table("calibration-covid19", "Calibration for Covid19", headers, columns[1:3], tuple(covid), "", synthetic),
    )


def _operating_table(points: Sequence[ThresholdPerformance], without: Metrics, synthetic: bool) -> Table:
    """Return what the thresholds achieve; `without` are the figures without a threshold, by the likeliest class."""
    rows = [Row(("none: likeliest class",), (None, without.sensitivity, without.specificity, None))]
    for point in points:
        known = [choice.threshold for choice in point.by_fold if choice.threshold is not None]
        thresholds = f"{min(known):.4f} to {max(known):.4f}" if known else ABSENT
        rows.append(
            Row((_whole_percent(point.target),), (thresholds, point.sensitivity, point.specificity, point.change))
        )
    columns = ("thresholds of the folds", "sensitivity (%)", "specificity (%)", "change of specificity (points)")
    title, headers = "Operating points for Covid19", ("Target sensitivity",)
    return Table("operating-points", title, headers, columns, tuple(rows), OPERATING_NOTE, synthetic)


def _thresholds_table(points: Sequence[ThresholdPerformance], synthetic: bool) -> Table:
    def values(fold: int | None) -> tuple[Value, ...]:
        choices = [point.for_use if fold is None else point.by_fold[fold] for point in points]
        thresholds = (ABSENT if c.threshold is None else f"{c.threshold:.4f}" for c in choices)
        return f"{choices[0].temperature:.4f}", *thresholds

    rows = [Row((f"fold {k}, chosen on the others",), values(k)) for k in range(len(points[0].by_fold))]
    rows.append(Row(("for use, chosen on all folds",), values(None), "total"))
    columns = ("temperature", *(f"threshold for {_whole_percent(point.target)}" for point in points))
    return Table("thresholds", "Thresholds", ("Applied to",), columns, tuple(rows), THRESHOLDS_NOTE, synthetic)


def _whole_percent(share: float) -> str:
    return f"{text(round(100 * share))}{NBSP}%"

"""Net benefit of acting on the winner's Covid19 probability, beside acting on all images or none (decision curve)."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.formatting import NBSP, joined, percent, text
from cxr_platform.evaluation.pictures import BLUE, GREY, INK, Picture, canvas, mark, to_png
from cxr_platform.evaluation.predictions import POSITIVE
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.statistics.bootstrap import study_bootstrap
from cxr_platform.evaluation.statistics.calibration import cross_scaled
from cxr_platform.evaluation.statistics.net_benefit import NetBenefit, net_benefits
from cxr_platform.evaluation.table import Row, Table
from cxr_platform.labels import POSITIVE_CLASS

NAME, TITLE = "net_benefit", f"Is it of use to act on the {POSITIVE_CLASS} probability?"
CURVE = tuple(range(1, 61))
"""Thresholds of the curve, in percent."""
SHOWN = (5, 10, 20, 30, 50)
"""Those of the table."""
ABSENT = f"Without images of {POSITIVE_CLASS} and others there is no benefit to compute."

METHOD = (
    "Net benefit counts the images of Covid19 that are acted on, minus the other images that are acted on, weighted by "
    "the odds of the threshold: with a threshold of 10 %, nine needless actions outweigh one that was needed (Vickers "
    "& Elkin 2006). An image is acted on if its Covid19 probability, scaled by a temperature of the other folds, "
    "reaches the threshold. Acting on all images and acting on none need no network; at a threshold where one of them "
    "is better, the network is of no use."
)
LIMIT = (
    "The curve is for this study's share of Covid19, which was chosen and is no hospital's, and for images of the same "
    "sources."
)


def compute(inputs: ReportInputs) -> tuple[NetBenefit, ...]:
    """Return the net benefit of the winner at the thresholds of `CURVE`; empty without both kinds of images."""
    predictions, winner = inputs.predictions, inputs.results.decision.winner
    positive = predictions.label == POSITIVE
    if positive.all() or not positive.any():
        return ()
    _, scaled = cross_scaled(predictions, winner)
    return net_benefits(positive, scaled[:, POSITIVE], study_bootstrap(inputs.study, predictions), CURVE)


def render(inputs: ReportInputs, curve: Sequence[NetBenefit]) -> Section:
    """Show the decision curve and the net benefit at some thresholds."""
    if not curve:
        return Section(NAME, TITLE, absent=ABSENT)
    winner, synthetic = TITLES[inputs.results.decision.winner], inputs.synthetic
    share = float(100 * (inputs.predictions.label == POSITIVE).mean())
    return Section(
        NAME,
        TITLE,
        lead=(_useful_sentence(winner, curve), METHOD, f"{LIMIT} It is {percent(share)} here."),
        pictures=(_picture(winner, curve, synthetic),),
        tables=(_table([point for point in curve if point.threshold in SHOWN], synthetic),),
        values={"share": share, "curve": [{**asdict(point), "useful": point.useful} for point in curve]},
    )


def _useful_sentence(winner: str, curve: Sequence[NetBenefit]) -> str:
    useful = [point.threshold for point in curve if point.useful]
    if not useful:
        return f"At no threshold is {winner.lower()} shown to be better than acting on all images or on none."
    if len(useful) == len(curve):
        return (
            f"{winner} is better than acting on all images or on none at every threshold from {useful[0]} to "
            f"{useful[-1]}{NBSP}%."
        )
    steps = np.flatnonzero(np.diff(useful) > 1) + 1
    runs = [f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in np.split(useful, steps)]
    return (
        f"{winner} is better than acting on all images or on none at {len(useful)} of {len(curve)} thresholds: "
        f"{joined(runs)}{NBSP}%."
    )


def _table(points: Sequence[NetBenefit], synthetic: bool) -> Table:
    rows = tuple(
        Row((f"{p.threshold}{NBSP}%",), (p.network, p.all_images, 0.0, p.gain, "yes" if p.useful else "no"))
        for p in points
    )
    columns = ("network", "act on all", "act on none", "gain", "network better")
    note = (
        "Net true positives per 100 images, with the 95 % confidence interval by bootstrap over patients. Gain: the "
        "network minus the better of the others, on the same images; the network is better if its interval is above 0."
    )
    return Table("net-benefit", "Net benefit", ("Threshold",), columns, rows, note, synthetic)


def _picture(winner: str, curve: Sequence[NetBenefit], synthetic: bool) -> Picture:
    thresholds = [point.threshold for point in curve]
    values = [point.network.value or 0.0 for point in curve]
    low, high = ([b if b is not None else v for b, v in zip(bounds, values, strict=True)] for bounds in _bounds(curve))
    highest = max(*high, *(point.all_images for point in curve))
    with canvas(4.4, synthetic=synthetic) as (figure, axes):
        axes.fill_between(thresholds, low, high, color=BLUE, alpha=0.2, linewidth=0)
        axes.plot(thresholds, values, color=BLUE, label="network")
        axes.plot(thresholds, [point.all_images for point in curve], "--", color=GREY, label="act on all images")
        axes.axhline(0, color=INK, linestyle=":", label="act on none")
        axes.set(xlim=(0, CURVE[-1]), ylim=(-0.25 * highest, 1.1 * highest))
        axes.set(xlabel=f"Threshold on the {POSITIVE_CLASS} probability (%)", ylabel="Net benefit (per 100 images)")
        axes.set_title(f"{winner}: decision curve", loc="left", pad=10)
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=10.5)
        png = to_png(figure)
    caption = "Net true positives per 100 images at each threshold; shaded: the 95 % confidence interval."
    listed = "; ".join(
        f"{p.threshold} %: {text(p.network.value)}, acting on all {text(p.all_images)}"
        for p in curve
        if p.threshold in SHOWN
    )
    return Picture("net-benefit", caption, f"{mark(synthetic)}Decision curve, net benefit by threshold. {listed}.", png)


def _bounds(curve: Sequence[NetBenefit]) -> tuple[list[float | None], list[float | None]]:
    return [point.network.low for point in curve], [point.network.high for point in curve]

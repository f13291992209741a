"""Reliability diagrams: stated probability against how often it came true, before and after scaling."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cxr_platform.evaluation.formatting import text
from cxr_platform.evaluation.pictures import BLUE, INK, VERMILION, Picture, canvas, mark, to_png
from cxr_platform.evaluation.statistics.calibration import Bin

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEW = 20  # images below which a bin is drawn hollow
LEGEND = "as trained", "after scaling"


def reliability_plot(
    name: str, title: str, stated: str, before: Sequence[Bin], after: Sequence[Bin], *, synthetic: bool
) -> Picture:
    """`stated` says of what the probability is, as in "of the likeliest class"."""
    with canvas(5.6, synthetic=synthetic) as (figure, axes):
        axes.plot([0, 100], [0, 100], color=INK, linestyle=":", label="as stated")
        _draw(axes, before, VERMILION, "s", LEGEND[0])
        _draw(axes, after, BLUE, "o", LEGEND[1])
        axes.set(xlim=(-2, 102), ylim=(-2, 102), aspect="equal")
        axes.set(xlabel=f"Stated probability {stated} (%)", ylabel="Came true (% of the images)")
        axes.set_title(title, loc="left", pad=10)
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=10.5, columnspacing=1.2)
        png = to_png(figure)
    caption = (
        f"Images by stated probability {stated}, in tenths, and how often it came true, with 95 % intervals. On the "
        f"dotted line a network is as sure as it is right; below it, surer than that. Hollow: fewer than {FEW} images."
    )
    return Picture(name, caption, _alt(stated, before, after, synthetic), png)


def _draw(axes: "Axes", bins: Sequence[Bin], colour: str, marker: str, label: str) -> None:
    for found in bins:
        low, high = found.observed.low, found.observed.high
        if low is not None and high is not None:
            axes.plot([100 * found.stated] * 2, [low, high], color=colour, linewidth=1.8, alpha=0.7)
        fill = "white" if found.images < FEW else colour
        axes.plot([100 * found.stated], [_observed(found)], marker, color=colour, markerfacecolor=fill, zorder=3)
    enough = [found for found in bins if found.images >= FEW]
    xs, ys = [100 * found.stated for found in enough], [_observed(found) for found in enough]
    axes.plot(xs, ys, color=colour, linewidth=1, alpha=0.5)
    axes.plot([], [], marker, color=colour, label=label)


def _observed(found: Bin) -> float:
    return float("nan") if found.observed.value is None else found.observed.value


def _alt(stated: str, before: Sequence[Bin], after: Sequence[Bin], synthetic: bool) -> str:
    told = [f"{name}: {_told(bins)}" for name, bins in zip(LEGEND, (before, after), strict=True)]
    return f"{mark(synthetic)}Reliability diagram, stated probability {stated} in percent. {'. '.join(told)}."


def _told(bins: Sequence[Bin]) -> str:
    parts = (f"{text(100 * b.stated)} stated, {text(b.observed)} came true of {b.images:,} images" for b in bins)
    return "; ".join(parts).capitalize()

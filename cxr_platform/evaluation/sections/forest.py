"""The picture of accuracy by subgroup: a dot with its interval each, under the name of what divides the images."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cxr_platform.evaluation.formatting import shortened, text
from cxr_platform.evaluation.pictures import BLUE, GREY, INK, Picture, canvas, mark, to_png
from cxr_platform.evaluation.statistics.subgroups import SMALL, Subgroup

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LONGEST = 24  # characters of a name beside the picture
HEADINGS = {"age": "Age (years)"}


def forest(overall: Subgroup, parts: Sequence[Subgroup], *, synthetic: bool) -> Picture:
    """7-class accuracy by subgroup with 95 % intervals; those over few images are hollow and grey."""
    places, headings = _places(parts)
    with canvas(2.3 + 0.33 * (len(parts) + len(headings)), synthetic=synthetic) as (figure, axes):
        axes.axvline(_value(overall), color=INK, linestyle=":", label="all images")
        for place, part in zip(places, parts, strict=True):
            _draw(axes, place, part)
        _name_rows(axes, places, parts, headings)
        axes.set(xlim=(0, 100), xlabel="7-class accuracy (% of images)", ylim=(places[-1] + 0.8, -0.8))
        axes.set_title("Accuracy by part of the images", loc="left", pad=10)
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside lower left", frameon=False, fontsize=11)
        png = to_png(figure)
    caption = (
        "7-class accuracy of the winner by part of the images, with 95 % intervals; number of images in parentheses. "
        f"Hollow and grey: fewer than {SMALL} images."
    )
    return Picture("subgroups", caption, _alt(overall, parts, synthetic), png)


def _places(parts: Sequence[Subgroup]) -> tuple[list[int], dict[int, str]]:
    """The line of each subgroup, and the lines of the headings above each kind of them."""
    places: list[int] = []
    headings: dict[int, str] = {}
    for by, group in itertools.groupby(parts, key=lambda part: part.by):
        start = len(places) + len(headings)
        headings[start] = by
        places += range(start + 1, start + 1 + len(list(group)))
    return places, headings


def _draw(axes: "Axes", place: int, part: Subgroup) -> None:
    interval, small = part.accuracy.interval, part.accuracy.small
    colour, fill = (GREY, "white") if small else (BLUE, BLUE)
    if interval.low is not None and interval.high is not None:
        axes.plot([interval.low, interval.high], [place, place], color=colour, linewidth=2, zorder=2)
    axes.plot([_value(part)], [place], "o", markersize=8, color=colour, markerfacecolor=fill, zorder=3, clip_on=False)
    axes.text(103.5, place, text(interval.value), va="center", color=colour, size=11, weight="bold")


def _name_rows(axes: "Axes", places: Sequence[int], parts: Sequence[Subgroup], headings: dict[int, str]) -> None:
    rows = {place: f"{shortened(p.name, LONGEST)} ({p.images:,})" for place, p in zip(places, parts, strict=True)}
    rows |= {place: HEADINGS.get(by, by.capitalize()) for place, by in headings.items()}
    axes.set_yticks(list(rows), list(rows.values()))
    for place, tick in zip(rows, axes.get_yticklabels(), strict=True):
        if place in headings:
            tick.set_fontweight("bold")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)


def _value(part: Subgroup) -> float:
    value = part.accuracy.interval.value
    return float("nan") if value is None else value  # matplotlib leaves NaN out


def _alt(overall: Subgroup, parts: Sequence[Subgroup], synthetic: bool) -> str:
    told = "; ".join(f"{p.by} {p.name} {text(p.accuracy.interval)} of {p.images:,} images" for p in parts)
    all_images = f"all images {text(overall.accuracy.interval)}"
    return f"{mark(synthetic)}Dots with intervals: 7-class accuracy in percent by part of the images. {all_images}; {told}."

"""Bar chart of rates with their confidence intervals, with a line for chance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.findings import ExternalFinding
from cxr_platform.evaluation.formatting import text
from cxr_platform.evaluation.pictures import BLUE, INK, VERMILION, Picture, canvas, mark, to_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Look(NamedTuple):
    """Colour and hatching of a bar, and their meaning in the legend."""

    colour: str
    hatch: str
    meaning: str


LOOKS = {
    "reference": Look(BLUE, "", "reference"),
    "alarm": Look(VERMILION, "//", "evidence against the figures"),
    "plain": Look("#b3b3b3", "..", "no evidence against them"),
}


@dataclass(frozen=True)
class Bar:
    """A rate in percent; `name` may have several lines, `look` is a key of `LOOKS`."""

    name: str
    rate: Interval
    look: str


@dataclass(frozen=True)
class Labels:
    """Name of the picture, its title and axis, and its caption and alternative text without their full stops."""

    name: str
    title: str
    axis: str
    caption: str
    alt: str


def paired_bars(pairs: Iterable[tuple[str, ExternalFinding]], reference: str) -> list[Bar]:
    """Return two bars of each finding: under its name the rate, and under the name `reference` what it is beside."""
    return [
        bar
        for name, finding in pairs
        for bar in (
            Bar(name, finding.external, "alarm" if finding.contradicts else "plain"),
            Bar(reference, finding.internal, "reference"),
        )
    ]


def rate_bars(bars: Sequence[Bar], labels: Labels, *, chance: float | None, synthetic: bool) -> Picture:
    """Draw horizontal bars from 0 to 100 %, and a dashed line at `chance` (percent)."""
    from matplotlib.patches import Patch

    with canvas(2.1 + 0.62 * len(bars), synthetic=synthetic) as (figure, axes):
        for line, bar in enumerate(bars):
            _draw_bar(axes, line, bar)
        if chance is not None:
            axes.axvline(chance, color=INK, linestyle="--", label=f"chance, {text(chance)}")
        axes.set_yticks(range(len(bars)), [bar.name for bar in bars])
        axes.set(xlim=(0, 118), xticks=range(0, 101, 20), xlabel=labels.axis, ylim=(len(bars) - 0.4, -0.6))
        axes.set_title(labels.title, loc="left", pad=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        shown = [look for name, look in LOOKS.items() if any(bar.look == name for bar in bars)]
        patches = [Patch(facecolor=x.colour, hatch=x.hatch, edgecolor="white", label=x.meaning) for x in shown]
        lines, _ = axes.get_legend_handles_labels()
        figure.legend(handles=[*patches, *lines], loc="outside lower left", frameon=False, fontsize=11, ncols=2)
        png = to_png(figure)
    listed = "; ".join(f"{bar.name.replace(chr(10), ' ')} {text(bar.rate)}" for bar in bars)
    alt = f"{mark(synthetic)}{labels.alt}: {listed}."
    if chance is not None:
        alt += f" Dashed line: chance, {text(chance)}."
    return Picture(labels.name, f"{labels.caption}, with 95 % confidence intervals.", alt, png)


def _draw_bar(axes: Axes, line: int, bar: Bar) -> None:
    value, low, high = bar.rate.value or 0.0, bar.rate.low, bar.rate.high
    look = LOOKS[bar.look]
    axes.barh(line, value, color=look.colour, hatch=look.hatch, edgecolor="white", height=0.62)
    if low is not None and high is not None:
        axes.plot([low, high], [line, line], color=INK, linewidth=2, marker="|", markersize=9)
    axes.text(max(value, high or 0.0) + 2, line, text(bar.rate.value), va="center", size=11, weight="bold", color=INK)

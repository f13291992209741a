"""A picture of rates: one bar each with its 95 % interval, beside a line for what chance would give."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.formatting import text
from cxr_platform.evaluation.pictures import BLUE, INK, VERMILION, Picture, canvas, mark, to_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LIGHT = "#b3b3b3"
LOOKS = {"control": (BLUE, ""), "alarm": (VERMILION, "//"), "plain": (LIGHT, "..")}
MEANINGS = {"control": "to compare with", "alarm": "speaks against them", "plain": "does not speak against them"}


@dataclass(frozen=True)
class Bar:
    """A rate in percent under its name; `look` is a key of `LOOKS`, told by colour and by hatching."""

    name: str
    rate: Interval
    look: str


@dataclass(frozen=True)
class Words:
    """What stands on and about a picture; `caption` and `start` of the alternative text end without a full stop."""

    name: str
    title: str
    axis: str
    caption: str
    start: str


def rate_bars(bars: Sequence[Bar], words: Words, *, chance: float | None, synthetic: bool) -> Picture:
    """Horizontal bars from 0 to 100 %, in their order; `chance` in percent is a dashed line."""
    with canvas(2.1 + 0.62 * len(bars), synthetic=synthetic) as (figure, axes):
        for place, bar in enumerate(bars):
            _draw(axes, place, bar)
        if chance is not None:
            axes.axvline(chance, color=INK, linestyle="--", label=f"chance, {text(chance)}")
        axes.set_yticks(range(len(bars)), [bar.name for bar in bars])
        axes.set(xlim=(0, 118), xticks=range(0, 101, 20), xlabel=words.axis, ylim=(len(bars) - 0.4, -0.6))
        axes.set_title(words.title, loc="left", pad=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        _legend(figure, axes, bars)
        png = to_png(figure)
    return Picture(words.name, f"{words.caption}, with 95 % intervals.", _alt(bars, words, chance, synthetic), png)


def _draw(axes: "Axes", place: int, bar: Bar) -> None:
    colour, hatch = LOOKS[bar.look]
    value, low, high = bar.rate.value or 0.0, bar.rate.low, bar.rate.high
    axes.barh(place, value, color=colour, hatch=hatch, edgecolor="white", height=0.62)
    if low is not None and high is not None:
        axes.plot([low, high], [place, place], color=INK, linewidth=2, marker="|", markersize=9)
    axes.text(max(value, high or 0.0) + 2, place, text(bar.rate.value), va="center", size=11, weight="bold", color=INK)


def _legend(figure: "object", axes: "Axes", bars: Sequence[Bar]) -> None:
    from matplotlib.patches import Patch

    looks = [look for look in LOOKS if any(bar.look == look for bar in bars)]
    patches = [
        Patch(facecolor=LOOKS[look][0], hatch=LOOKS[look][1], edgecolor="white", label=MEANINGS[look]) for look in looks
    ]
    lines, _ = axes.get_legend_handles_labels()
    figure.legend(  # type: ignore[attr-defined]
        handles=[*patches, *lines], loc="outside lower left", frameon=False, fontsize=11, ncols=2
    )


def _alt(bars: Sequence[Bar], words: Words, chance: float | None, synthetic: bool) -> str:
    told = "; ".join(f"{bar.name.replace(chr(10), ' ')} {text(bar.rate)}" for bar in bars)
    line = "" if chance is None else f" Dashed line: chance, {text(chance)}."
    return f"{mark(synthetic)}{words.start}: {told}.{line}"

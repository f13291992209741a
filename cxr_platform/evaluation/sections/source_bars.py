"""The picture of class × source: one bar a class, its length shared out among the sources.

Letters in the bars and hatching repeat what colour says.
"""

from typing import TYPE_CHECKING, Any

from cxr_platform.evaluation.formatting import text
from cxr_platform.evaluation.pictures import BLUE, GREEN, GREY, INK, VERMILION, Picture, canvas, mark, to_png
from cxr_platform.evaluation.statistics.association import Counts, count_table, source_shares, sources_of
from cxr_platform.labels import CLASSES

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

LOOKS = ((BLUE, ""), ("#E69F00", "//"), (GREEN, "\\\\"), ("#CC79A7", "xx"), ("#56B4E9", ".."), (VERMILION, "--"))
"""Colours of Okabe and Ito's with a hatching each; sources beyond these share grey."""
LETTERS = "ABCDEFG"
LABEL = {"facecolor": "white", "edgecolor": "none", "boxstyle": "round,pad=0.15"}
WIDE_ENOUGH = 6.0  # percent of a bar that a letter needs


def source_bars(counts: Counts, *, synthetic: bool) -> Picture:
    """Percent of each class's images by source; classes without images keep an empty place that says so."""
    names, widths = _segments(counts)
    with canvas(3.4 + 0.28 * len(names), synthetic=synthetic) as (figure, axes):
        for place, name in enumerate(names):
            _draw(axes, place, name, widths[:, place], widths[:, :place].sum(axis=1))
        _name_rows(axes, counts)
        axes.set(xlim=(0, 100), xlabel="Images of the class (%)", ylim=(len(CLASSES) - 0.5, -0.5))
        axes.set_title("Sources of each class", loc="left", pad=10)
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside lower left", frameon=False, fontsize=11)
        png = to_png(figure)
    caption = "Images of each class by the source that they come from, in percent of the class."
    return Picture("sources", caption, _alt(counts, synthetic), png)


def _segments(counts: Counts) -> "tuple[list[str], np.ndarray]":
    """Names of the k segments, and their lengths (7, k) in percent: sources beyond the looks are put together."""
    import numpy as np

    sources, table, most = sources_of(counts), count_table(counts), len(LOOKS)
    shares = 100 * table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    if len(sources) <= most:
        return sources, shares
    others = shares[:, most:].sum(axis=1, keepdims=True)
    return [*sources[:most], f"{len(sources) - most} other sources"], np.hstack([shares[:, :most], others])


def _draw(axes: "Axes", place: int, name: str, widths: "np.ndarray", starts: "np.ndarray") -> None:
    colour, hatch = (*LOOKS, (GREY, ""))[place]
    letter, rows = LETTERS[place], range(len(CLASSES))
    look: dict[str, Any] = {"color": colour, "hatch": hatch, "edgecolor": "white", "height": 0.72}
    axes.barh(rows, widths, left=starts, label=f"{letter}  {name}", **look)
    for row, width, middle in zip(rows, widths, starts + widths / 2, strict=True):
        if width >= WIDE_ENOUGH:
            axes.text(middle, row, letter, ha="center", va="center", size=11, color=INK, bbox=LABEL)


def _name_rows(axes: "Axes", counts: Counts) -> None:
    totals = [sum(counts.get(c, {}).values()) for c in CLASSES]
    axes.set_yticks(range(len(CLASSES)), [f"{c} ({n:,})" for c, n in zip(CLASSES, totals, strict=True)])
    for place, n in enumerate(totals):
        if not n:
            axes.text(1, place, "no images", va="center", color=GREY, style="italic")


def _alt(counts: Counts, synthetic: bool) -> str:
    parts = []
    for label, shares in source_shares(counts).items():
        told = ", ".join(f"{source} {text(share)}" for source, share in shares.items() if share)
        parts.append(f"{label}: {told or 'no images'}")
    return f"{mark(synthetic)}Stacked bars of sources by class, in percent of the class. {'; '.join(parts)}."

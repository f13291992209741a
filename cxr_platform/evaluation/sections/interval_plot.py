"""The picture of 7-class accuracy with intervals, the paper's figures beside them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cxr_platform.domain.interval import Interval
from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.formatting import text
from cxr_platform.evaluation.paper import paper_metrics
from cxr_platform.evaluation.pictures import BLUE, GREY, VERMILION, Picture, canvas, mark, to_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOOK: dict[str, Any] = {"fmt": "o", "markersize": 5, "elinewidth": 2, "capsize": 5, "capthick": 2}
LIFT = 0.16  # how far a strategy's two marks stand above and below its place


def interval_plot(accuracy: Mapping[str, Interval], *, synthetic: bool) -> Picture:
    """A dot with its interval for each strategy of `accuracy`, a diamond for the paper's figure, in its order."""
    with canvas(2.0 + 0.55 * len(TITLES), synthetic=synthetic) as (figure, axes):
        for place, name in enumerate(TITLES):
            _draw(axes, place, accuracy.get(name))
        printed = [_number(paper_metrics(name).accuracy_7_class) for name in TITLES]
        places = [place + LIFT for place in range(len(TITLES))]
        axes.plot(printed, places, "D", color=VERMILION, markerfacecolor="white", markersize=7, label="paper")
        axes.errorbar([], [], xerr=[], color=BLUE, **LOOK, label="this study, 95 % interval")
        axes.set_yticks(range(len(TITLES)), list(TITLES.values()))
        axes.set(
            xlim=(_start([*accuracy.values()], printed), 100),
            xlabel="7-class accuracy (% of images)",
            ylim=(len(TITLES) - 0.45, -0.55),
        )
        axes.set_title("7-class accuracy with intervals", loc="left", pad=10)
        axes.grid(axis="x", color="#dddddd", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=10.5)
        png = to_png(figure)
    caption = (
        "7-class accuracy over all images with its 95 % interval by bootstrap over patients; a diamond marks the "
        "paper's figure, which comes without an interval."
    )
    return Picture("intervals", caption, _alt(accuracy, synthetic), png)


def _draw(axes: "Axes", place: int, found: Interval | None) -> None:
    if found is None or found.value is None:
        across = axes.get_yaxis_transform()  # x from 0 to 1, wherever the axis starts
        axes.text(0.01, place - LIFT, "not run", va="center", color=GREY, style="italic", transform=across)
        return
    low, high = (found.value if bound is None else bound for bound in (found.low, found.high))
    axes.errorbar([found.value], [place - LIFT], xerr=[[found.value - low], [high - found.value]], color=BLUE, **LOOK)


def _start(found: Sequence[Interval], printed: Sequence[float]) -> float:
    """The ten below everything drawn: the intervals are too narrow to be seen on an axis from 0."""
    drawn = [v for i in found for v in (i.value, i.low) if v is not None]
    return 10 * (min([*drawn, *(v for v in printed if v == v)]) // 10)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value  # matplotlib leaves NaN out


def _alt(accuracy: Mapping[str, Interval], synthetic: bool) -> str:
    parts = []
    for name, shown in TITLES.items():
        ours = text(accuracy[name]) if name in accuracy else "not run"
        parts.append(f"{shown} {ours}, paper {text(paper_metrics(name).accuracy_7_class)}")
    return f"{mark(synthetic)}Dots with intervals: 7-class accuracy in percent. {'; '.join(parts)}."

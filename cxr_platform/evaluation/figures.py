"""The report's pictures: accuracy by strategy, and one confusion matrix a strategy.

Shape repeats what colour says; the confusion matrices use a single-hue map.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.canvas import BLUE, GREY, INK, VERMILION, Picture, canvas, mark, readable_on, to_png
from cxr_platform.evaluation.metrics import Results, StrategyResult, row_shares
from cxr_platform.evaluation.paper import paper_figures
from cxr_platform.evaluation.study_results import Outcome
from cxr_platform.evaluation.table import text
from cxr_platform.labels import CLASSES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

STUDY_LIFT, PAPER_LIFT = 0.16, -0.16  # a strategy's two bars stand this far above and below its place


def accuracy_chart(outcome: Outcome) -> Picture:
    """Bars of mean 7-class accuracy for all eight strategies, folds as dots, the paper's figure as a second bar."""
    with canvas(2.2 + 0.6 * len(TITLES), synthetic=outcome.study.manifest.synthetic) as (figure, axes):
        _study_bars(axes, outcome.results)
        _fold_dots(axes, outcome.results)
        _paper_bars(axes)
        axes.axvline(
            _number(outcome.majority_accuracy), color=INK, linestyle=":", label="always the most frequent class"
        )
        axes.set_yticks(range(len(TITLES)), list(TITLES.values()))
        axes.set(xlim=(0, 100), xlabel="7-class accuracy (% of images)", ylim=(len(TITLES) - 0.45, -0.55))
        axes.set_title("7-class accuracy by strategy", loc="left", pad=10)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=10.5, columnspacing=1.2)
        png = to_png(figure)
    caption = "Mean 7-class accuracy over folds; each dot is one fold. The thin hatched bar is the paper's figure."
    return Picture("accuracy", caption, _accuracy_alt(outcome), png)


def confusion_picture(outcome: Outcome, result: StrategyResult) -> Picture:
    """The 7 × 7 matrix of one strategy over all folds: counts in cells, shades by share of the actual class."""
    shown = TITLES[result.strategy]
    with canvas(5.7, synthetic=outcome.study.manifest.synthetic) as (figure, axes):
        image = _shaded_counts(axes, result)
        axes.set_xticks(range(len(CLASSES)), CLASSES, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(CLASSES)), CLASSES)
        axes.set(xlabel="Predicted class (cells: number of images)", ylabel="Actual class")
        axes.set_title(shown, loc="left", pad=10)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        bar = figure.colorbar(image, ax=axes, label="share of the actual class (%)", shrink=0.8, pad=0.02)
        bar.outline.set_visible(False)
        png = to_png(figure)
    caption = f"{shown}: images of each actual class by predicted class, all folds pooled."
    return Picture(f"confusion-{result.strategy}", caption, _confusion_alt(outcome, result), png)


def _study_bars(axes: "Axes", results: Results) -> None:
    for place, name in enumerate(TITLES):
        if name not in results:
            axes.text(1, place - STUDY_LIFT, "not run", va="center", color=GREY, style="italic")
    places = [place - STUDY_LIFT for place, name in enumerate(TITLES) if name in results]
    means = [_number(result.mean.accuracy_7_class) for result in results.values()]
    axes.barh(places, means, height=0.36, color=BLUE, label="this study, mean over folds")
    _print_values(axes, places, means, BLUE)


def _fold_dots(axes: "Axes", results: Results) -> None:
    import numpy as np

    xs: list[float] = []
    ys: list[float] = []
    for place, name in enumerate(TITLES):
        folds = results[name].folds if name in results else ()
        xs += [_number(fold.figures.accuracy_7_class) for fold in folds]
        ys += list(place - STUDY_LIFT + np.linspace(-0.14, 0.14, len(folds)))  # apart, so that equal ones are seen
    axes.scatter(xs, ys, s=18, color=INK, edgecolors="white", linewidths=0.7, zorder=3, label="this study, one fold")


def _paper_bars(axes: "Axes") -> None:
    places = [place - PAPER_LIFT for place in range(len(TITLES))]
    printed = [_number(paper_figures(name).accuracy_7_class) for name in TITLES]
    axes.barh(places, printed, height=0.2, color="white", edgecolor=VERMILION, hatch="/////", label="paper")
    _print_values(axes, places, printed, VERMILION)


def _print_values(axes: "Axes", places: Sequence[float], values: Sequence[float], colour: str) -> None:
    for place, value in zip(places, values, strict=True):
        axes.text(101.5, place, text(value), va="center", color=colour, size=11, weight="bold")


def _shaded_counts(axes: "Axes", result: StrategyResult) -> "AxesImage":
    import numpy as np

    shares = np.nan_to_num(np.array(row_shares(result.matrix), dtype=float))  # a class without images is left pale
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    for (row, column), count in np.ndenumerate(result.matrix):
        colour = readable_on([float(c) for c in image.cmap(image.norm(shares[row, column]))])
        axes.text(column, row, f"{count:,}", ha="center", va="center", color=colour, size=11)
    return image


def _number(value: float | None) -> float:
    return float("nan") if value is None else value  # matplotlib leaves NaN out


def _accuracy_alt(outcome: Outcome) -> str:
    parts = []
    for name, shown in TITLES.items():
        ours = text(outcome.results[name].mean.accuracy_7_class) if name in outcome.results else "not run"
        parts.append(f"{shown} {ours} (paper {text(paper_figures(name).accuracy_7_class)})")
    return f"{mark(outcome.study.manifest.synthetic)}Bar chart of mean 7-class accuracy in percent: {'; '.join(parts)}."


def _confusion_alt(outcome: Outcome, result: StrategyResult) -> str:
    shares = row_shares(result.matrix)
    recall = ", ".join(f"{label} {text(shares[i][i])}" for i, label in enumerate(CLASSES))
    shown = TITLES[result.strategy].lower()
    start = mark(outcome.study.manifest.synthetic)
    return f"{start}Confusion matrix of {shown}. Recognised, in percent of the actual class: {recall}."

"""Pictures of the report: the canvas that all of them use, accuracy by strategy, confusion matrices, explained images.

Pictures are drawn with matplotlib's objects, without pyplot: no global state, no display. Colours are Okabe and Ito's,
which are distinguishable with every common colour vision deficiency; shape or text repeats what colour shows.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from cxr_platform.domain.strategies import STRATEGY_NAMES, TITLES, compared_with_paper
from cxr_platform.evaluation.formatting import text
from cxr_platform.evaluation.metrics import Results, StrategyResult, row_shares
from cxr_platform.evaluation.paper import paper_metrics
from cxr_platform.evaluation.predictions import Array
from cxr_platform.evaluation.study_results import StudyResults
from cxr_platform.evaluation.table import SYNTHETIC
from cxr_platform.labels import CLASSES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, VERMILION, GREEN, INK, GREY = "#0072B2", "#D55E00", "#009E73", "#1a1a1a", "#595959"
OUTLINE = "#56B4E9"  # visible on black, grey and white
STAMP = {"facecolor": "#7a0019", "edgecolor": "none", "boxstyle": "square,pad=0.45"}
HEAT_COLOURS = "inferno"  # black, red, yellow: lightness rises with heat, so it reads the same without colour vision
HEAT_OPACITY = 0.85  # of the hottest place
WIDTH_INCHES = 5.8  # narrow, so that 12-point type stays readable when a phone scales the picture down
DPI = 200
STYLE = {"font.family": "DejaVu Sans", "font.size": 12, "axes.titlesize": 13, "axes.titleweight": "bold"}
STUDY_OFFSET, PAPER_OFFSET = 0.16, -0.16  # of a strategy's two bars from its place


@dataclass(frozen=True)
class Picture:
    """One picture as PNG, with a caption and a text alternative."""

    name: str
    caption: str
    alt: str
    png: bytes


@contextmanager
def canvas(height_inches: float, *, synthetic: bool) -> "Iterator[tuple[Figure, Axes]]":
    """Yield a figure `WIDTH_INCHES` wide with one pair of axes, stamped if the images are synthetic."""
    with figure_sheet(height_inches, synthetic=synthetic) as figure:
        yield figure, figure.add_subplot()


@contextmanager
def figure_sheet(height_inches: float, *, synthetic: bool) -> "Iterator[Figure]":
    """As `canvas`, without axes: for pictures of several panels."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(h_pad=0.12)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_INCHES, height_inches), dpi=DPI, layout=layout, facecolor="white")
        if synthetic:
            figure.suptitle(f"{SYNTHETIC} – drawn, not of patients", color="white", weight="bold", size=11, bbox=STAMP)
        yield figure


def to_png(figure: "Figure") -> bytes:
    """Return the figure as PNG; without the Software tag the bytes do not depend on matplotlib's version."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", bbox_inches="tight", pad_inches=0.15, metadata={"Software": None})
    return stream.getvalue()


def mark(synthetic: bool) -> str:
    """Return the start of a picture's text alternative."""
    return "Synthetic images. " if synthetic else ""


def readable_on(background: Sequence[float]) -> str:
    """Return the text colour, black or white, with the higher WCAG contrast on an RGB(A) background in 0..1."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in background[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return INK if luminance > 0.179 else "white"  # at 0.179 both contrasts are equal


def accuracy_chart(results: StudyResults) -> Picture:
    """Draw mean 7-class accuracy as bars, folds as dots, and the paper's as a second bar.

    A row for each of the paper's strategies and each other one of the study.
    """
    strategies, synthetic = results.strategies, results.study.manifest.synthetic
    rows = compared_with_paper(strategies)
    with canvas(2.2 + 0.6 * len(rows), synthetic=synthetic) as (figure, axes):
        _study_bars(axes, rows, strategies)
        _fold_dots(axes, rows, strategies)
        _paper_bars(axes, rows)
        axes.axvline(
            _number(results.majority_accuracy), color=INK, linestyle=":", label="always the most frequent class"
        )
        axes.set_yticks(range(len(rows)), [TITLES[name] for name in rows])
        axes.set(xlim=(0, 100), xlabel="7-class accuracy (% of images)", ylim=(len(rows) - 0.45, -0.55))
        axes.set_title("7-class accuracy by strategy", loc="left", pad=10)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=10.5, columnspacing=1.2)
        png = to_png(figure)
    values = []
    for name in rows:
        ours = text(strategies[name].mean.accuracy_7_class) if name in strategies else "not run"
        values.append(f"{TITLES[name]} {ours} (paper {text(paper_metrics(name).accuracy_7_class)})")
    caption = "Mean 7-class accuracy over folds; each dot is one fold. The thin hatched bar is the paper's value."
    alt = f"{mark(synthetic)}Bar chart of mean 7-class accuracy in percent: {'; '.join(values)}."
    return Picture("accuracy", caption, alt, png)


def confusion_picture(results: StudyResults, result: StrategyResult) -> Picture:
    """Draw the 7 × 7 matrix of one strategy over all folds: counts in cells, shaded by share of the actual class."""
    title, synthetic = TITLES[result.strategy], results.study.manifest.synthetic
    shares = row_shares(result.matrix)
    with canvas(5.7, synthetic=synthetic) as (figure, axes):
        shades = np.nan_to_num(np.array(shares, dtype=float))  # a class without images stays pale
        image = axes.imshow(shades, cmap="Blues", vmin=0, vmax=100)
        for (row, column), images in np.ndenumerate(result.matrix):
            colour = readable_on([float(c) for c in image.cmap(image.norm(shades[row, column]))])
            axes.text(column, row, f"{images:,}", ha="center", va="center", color=colour, size=11)
        axes.set_xticks(range(len(CLASSES)), CLASSES, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(CLASSES)), CLASSES)
        axes.set(xlabel="Predicted class (cells: number of images)", ylabel="Actual class")
        axes.set_title(title, loc="left", pad=10)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        bar = figure.colorbar(image, ax=axes, label="share of the actual class (%)", shrink=0.8, pad=0.02)
        bar.outline.set_visible(False)
        png = to_png(figure)
    recall = ", ".join(f"{label} {text(shares[i][i])}" for i, label in enumerate(CLASSES))
    caption = f"{title}: images of each actual class by predicted class, all folds pooled."
    alt = f"{mark(synthetic)}Confusion matrix of {title.lower()}. Recall per class in percent: {recall}."
    return Picture(f"confusion-{result.strategy}", caption, alt, png)


def explanation_picture(
    image: Array, heat: Array, lungs: Array, probabilities: Array, title: str, *, synthetic: bool
) -> bytes:
    """Return a PNG: the image, its heatmap with the outline of the lungs, and the probabilities as bars.

    `image` is (S, S) uint8, `heat` (side, side) from 0 to 1, `lungs` (S, S) bool, `probabilities` (7,).
    """
    with figure_sheet(WIDTH_INCHES * 0.95, synthetic=synthetic) as figure:
        grid = figure.add_gridspec(2, 2, height_ratios=(1.1, 1))
        left, right = (figure.add_subplot(grid[0, column]) for column in (0, 1))
        left.imshow(image, cmap="gray", vmin=0, vmax=255)
        left.set_title("image", fontsize=11, weight="normal")
        right.imshow(overlay_heatmap(image, heat))
        right.contour(lungs, levels=[0.5], colors=OUTLINE, linewidths=1.5, linestyles="--")
        right.set_title("heatmap, lungs dashed", fontsize=11, weight="normal")
        for axes in (left, right):
            axes.set_axis_off()
        _probability_bars(figure.add_subplot(grid[1, :]), probabilities, title)
        return to_png(figure)


def to_rgb(image: Array) -> Array:
    """Return a grey image (S, S) uint8 as (S, S, 3) from 0 to 1."""
    return np.repeat(image[..., None] / 255.0, 3, axis=-1)


def overlay_heatmap(image: Array, heat: Array) -> Array:
    """Return the image (S, S) uint8 under its heatmap, (S, S, 3) from 0 to 1; opacity is the root of the heat."""
    import matplotlib

    size = (image.shape[1], image.shape[0])
    enlarged = np.asarray(Image.fromarray(heat.astype("float32")).resize(size, Image.Resampling.BILINEAR))
    strength = np.sqrt(np.clip(enlarged, 0, 1))[..., None]
    colours = matplotlib.colormaps[HEAT_COLOURS](strength[..., 0])[..., :3]
    return np.asarray(to_rgb(image) * (1 - HEAT_OPACITY * strength) + colours * HEAT_OPACITY * strength)


def _study_bars(axes: "Axes", rows: Sequence[str], strategies: Results) -> None:
    for place, name in enumerate(rows):
        if name not in strategies:
            axes.text(1, place - STUDY_OFFSET, "not run", va="center", color=GREY, style="italic")
    places = [place - STUDY_OFFSET for place, name in enumerate(rows) if name in strategies]
    means = [_number(result.mean.accuracy_7_class) for result in strategies.values()]
    axes.barh(places, means, height=0.36, color=BLUE, label="this study, mean over folds")
    _print_values(axes, places, means, BLUE)


def _fold_dots(axes: "Axes", rows: Sequence[str], strategies: Results) -> None:
    xs: list[float] = []
    ys: list[float] = []
    for place, name in enumerate(rows):
        folds = strategies[name].folds if name in strategies else ()
        xs += [_number(fold.metrics.accuracy_7_class) for fold in folds]
        ys += list(
            place - STUDY_OFFSET + np.linspace(-0.14, 0.14, len(folds))
        )  # spread, so that equal ones are visible
    axes.scatter(xs, ys, s=18, color=INK, edgecolors="white", linewidths=0.7, zorder=3, label="this study, one fold")


def _paper_bars(axes: "Axes", rows: Sequence[str]) -> None:
    places = [place - PAPER_OFFSET for place, name in enumerate(rows) if name in STRATEGY_NAMES]
    printed = [_number(paper_metrics(name).accuracy_7_class) for name in STRATEGY_NAMES]
    axes.barh(places, printed, height=0.2, color="white", edgecolor=VERMILION, hatch="/////", label="paper")
    _print_values(axes, places, printed, VERMILION)


def _print_values(axes: "Axes", places: Sequence[float], values: Sequence[float], colour: str) -> None:
    for place, value in zip(places, values, strict=True):
        axes.text(101.5, place, text(value), va="center", color=colour, size=11, weight="bold")


def _probability_bars(axes: "Axes", probabilities: Array, title: str) -> None:
    values = [100 * float(p) for p in probabilities]
    axes.barh(CLASSES, values, color=BLUE)
    for y, value in enumerate(values):
        axes.text(value + 1, y, f"{value:.2f}", va="center", fontsize=10, color=INK)
    axes.set(xlim=(0, 118), xlabel="probability (%)", ylim=(len(CLASSES) - 0.5, -0.5))
    axes.set_title(title, fontsize=10, weight="normal", loc="left")
    axes.set_xticks(range(0, 101, 20))
    axes.spines[["top", "right"]].set_visible(False)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value  # matplotlib leaves NaN out

"""What every picture of the report is drawn on and with.

Drawn through matplotlib's objects, without pyplot: no global state, no display. Colours are Okabe and Ito's, told apart
by every common kind of colour vision.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.formatting import text
from cxr_platform.evaluation.metrics import Results, StrategyResult, row_shares
from cxr_platform.evaluation.paper import paper_metrics
from cxr_platform.evaluation.study_results import StudyResults
from cxr_platform.evaluation.table import SYNTHETIC
from cxr_platform.labels import CLASSES

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

BLUE, VERMILION, GREEN, INK, GREY = "#0072B2", "#D55E00", "#009E73", "#1a1a1a", "#595959"


STAMP = {"facecolor": "#7a0019", "edgecolor": "none", "boxstyle": "square,pad=0.45"}


HEAT_COLOURS = "inferno"  # from black over red to yellow, as light as it is hot: read the same without colour vision
HEAT_OPACITY = 0.85  # of the hottest place
WIDTH_INCHES = 5.8  # narrow, so that 12-point type can still be read when a phone scales the picture down


DPI = 200


STYLE = {"font.family": "DejaVu Sans", "font.size": 12, "axes.titlesize": 13, "axes.titleweight": "bold"}


@dataclass(frozen=True)
class Picture:
    """One figure as PNG, with the words for those who do not see it."""

    name: str
    caption: str
    alt: str
    png: bytes


@contextmanager
def canvas(height_inches: float, *, synthetic: bool) -> "Iterator[tuple[Figure, Axes]]":
    """A figure with one pair of axes, `WIDTH_INCHES` wide, stamped where the images are synthetic."""
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
    """The figure as PNG; without the Software tag the same figures give the same bytes under any matplotlib."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", bbox_inches="tight", pad_inches=0.15, metadata={"Software": None})
    return stream.getvalue()


def mark(synthetic: bool) -> str:
    """What the text of a picture starts with where the images are synthetic."""
    return "Synthetic images. " if synthetic else ""


def readable_on(background: Sequence[float]) -> str:
    """Black or white, whichever has the higher WCAG contrast on an RGB(A) background in 0..1."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in background[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return INK if luminance > 0.179 else "white"  # 0.179: where both contrasts are equal


# The report's pictures: accuracy by strategy, and one confusion matrix a strategy.
# Shape repeats what colour says; the confusion matrices use a single-hue map.


STUDY_LIFT, PAPER_LIFT = 0.16, -0.16  # a strategy's two bars stand this far above and below its place


def accuracy_chart(results: StudyResults) -> Picture:
    """Bars of mean 7-class accuracy for all eight strategies, folds as dots, the paper's figure as a second bar."""
    with canvas(2.2 + 0.6 * len(TITLES), synthetic=results.study.manifest.synthetic) as (figure, axes):
        _study_bars(axes, results.strategies)
        _fold_dots(axes, results.strategies)
        _paper_bars(axes)
        axes.axvline(
            _number(results.majority_accuracy), color=INK, linestyle=":", label="always the most frequent class"
        )
        axes.set_yticks(range(len(TITLES)), list(TITLES.values()))
        axes.set(xlim=(0, 100), xlabel="7-class accuracy (% of images)", ylim=(len(TITLES) - 0.45, -0.55))
        axes.set_title("7-class accuracy by strategy", loc="left", pad=10)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=10.5, columnspacing=1.2)
        png = to_png(figure)
    caption = "Mean 7-class accuracy over folds; each dot is one fold. The thin hatched bar is the paper's figure."
    return Picture("accuracy", caption, _accuracy_alt(results), png)


def confusion_picture(results: StudyResults, result: StrategyResult) -> Picture:
    """The 7 × 7 matrix of one strategy over all folds: counts in cells, shades by share of the actual class."""
    shown = TITLES[result.strategy]
    with canvas(5.7, synthetic=results.study.manifest.synthetic) as (figure, axes):
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
    return Picture(f"confusion-{result.strategy}", caption, _confusion_alt(results, result), png)


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
        xs += [_number(fold.metrics.accuracy_7_class) for fold in folds]
        ys += list(place - STUDY_LIFT + np.linspace(-0.14, 0.14, len(folds)))  # apart, so that equal ones are seen
    axes.scatter(xs, ys, s=18, color=INK, edgecolors="white", linewidths=0.7, zorder=3, label="this study, one fold")


def _paper_bars(axes: "Axes") -> None:
    places = [place - PAPER_LIFT for place in range(len(TITLES))]
    printed = [_number(paper_metrics(name).accuracy_7_class) for name in TITLES]
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


def _accuracy_alt(results: StudyResults) -> str:
    parts = []
    for name, shown in TITLES.items():
        ours = text(results.strategies[name].mean.accuracy_7_class) if name in results.strategies else "not run"
        parts.append(f"{shown} {ours} (paper {text(paper_metrics(name).accuracy_7_class)})")
    return f"{mark(results.study.manifest.synthetic)}Bar chart of mean 7-class accuracy in percent: {'; '.join(parts)}."


def _confusion_alt(results: StudyResults, result: StrategyResult) -> str:
    shares = row_shares(result.matrix)
    recall = ", ".join(f"{label} {text(shares[i][i])}" for i, label in enumerate(CLASSES))
    shown = TITLES[result.strategy].lower()
    start = mark(results.study.manifest.synthetic)
    return f"{start}Confusion matrix of {shown}. Recognised, in percent of the actual class: {recall}."


# One image, where its answer comes from, and how likely each class was held.


OUTLINE = "#56B4E9"  # Okabe and Ito's light blue: seen on black, grey and white


def explanation_picture(
    image: "np.ndarray",
    heat: "np.ndarray",
    field: "np.ndarray",
    probabilities: "np.ndarray",
    title: str,
    *,
    synthetic: bool,
) -> bytes:
    """PNG: the image (S, S) uint8; the same under its heatmap (side, side) with the outline of `field` (S, S) bool; the
    probabilities (7,) as bars."""
    with figure_sheet(WIDTH_INCHES * 0.95, synthetic=synthetic) as figure:
        grid = figure.add_gridspec(2, 2, height_ratios=(1.1, 1))
        left, right = (figure.add_subplot(grid[0, column]) for column in (0, 1))
        left.imshow(image, cmap="gray", vmin=0, vmax=255)
        left.set_title("image", fontsize=11, weight="normal")
        right.imshow(overlay_heatmap(image, heat))
        right.contour(field, levels=[0.5], colors=OUTLINE, linewidths=1.5, linestyles="--")
        right.set_title("heatmap, lung field dashed", fontsize=11, weight="normal")
        for axes in (left, right):
            axes.set_axis_off()
        _bars(figure.add_subplot(grid[1, :]), probabilities, title)
        return to_png(figure)


def _bars(axes: "Axes", probabilities: "np.ndarray", title: str) -> None:
    values = [100 * float(p) for p in probabilities]
    axes.barh(CLASSES, values, color=BLUE)
    for y, value in enumerate(values):
        axes.text(value + 1, y, f"{value:.2f}", va="center", fontsize=10, color=INK)
    axes.set(xlim=(0, 118), xlabel="probability (%)", ylim=(len(CLASSES) - 0.5, -0.5))
    axes.set_title(title, fontsize=10, weight="normal", loc="left")
    axes.set_xticks(range(0, 101, 20))
    axes.spines[["top", "right"]].set_visible(False)


def to_rgb(image: "np.ndarray") -> "np.ndarray":
    """Return a grey image (S, S) uint8 as (S, S, 3) from 0 to 1."""
    import numpy as np

    return np.repeat(image[..., None] / 255.0, 3, axis=-1)


def overlay_heatmap(image: "np.ndarray", heat: "np.ndarray") -> "np.ndarray":
    """The image (S, S) uint8 under its heatmap, (S, S, 3) in 0…1; the root of the heat makes weaker places visible."""
    import matplotlib
    import numpy as np
    from PIL import Image

    size = (image.shape[1], image.shape[0])
    enlarged = np.asarray(Image.fromarray(heat.astype("float32")).resize(size, Image.Resampling.BILINEAR))
    strength = np.sqrt(np.clip(enlarged, 0, 1))[..., None]
    colours = matplotlib.colormaps[HEAT_COLOURS](strength[..., 0])[..., :3]
    return np.asarray(to_rgb(image) * (1 - HEAT_OPACITY * strength) + colours * HEAT_OPACITY * strength)

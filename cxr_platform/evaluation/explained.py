"""One image, where its answer comes from, and how likely each class was held."""

from typing import TYPE_CHECKING

from cxr_platform.evaluation.canvas import BLUE, INK, WIDTH_INCHES, figure_sheet, to_png
from cxr_platform.evaluation.sections.image_sheet import over
from cxr_platform.labels import CLASSES

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

OUTLINE = "#56B4E9"  # Okabe and Ito's light blue: seen on black, grey and white


def explained_picture(
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
        right.imshow(over(image, heat))
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

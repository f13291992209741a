"""Sheets of images with their heatmaps, several images to a picture."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from cxr_platform.evaluation.pictures import (
    HEAT_COLOURS,
    HEAT_OPACITY,
    INK,
    STAMP,
    WIDTH_INCHES,
    figure_sheet,
    overlay_heatmap,
    to_png,
    to_rgb,
)

LABEL_POINTS, LINE_INCHES = 8.0, 0.15
HOW_TO_READ = "From dark to bright yellow: where the answer comes from. Uncoloured places hardly support it."


@dataclass(frozen=True, eq=False)
class Panel:
    """An image (h, w, 3) in 0…1 under its `lines` of text."""

    lines: tuple[str, ...]
    image: NDArray[np.float64]


def side_by_side(image: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the image (S, S) uint8, and to its right its `overlay_heatmap`: (S, 2 S, 3) in 0…1."""
    return np.concatenate([to_rgb(image), overlay_heatmap(image, heat)], axis=1)


def heatmap_of(row: "pd.Series[Any]") -> NDArray[np.float32]:
    """Return the heatmap (side, side) in a row of the evidence."""
    return np.asarray(row["heatmap"], dtype="float32").reshape(int(row["side"]), int(row["side"]))


def image_sheet(panels: Sequence[Panel], columns: int, *, synthetic: bool) -> bytes:
    """Return all panels as one PNG, row by row."""
    rows = -(-len(panels) // columns)
    height, width = panels[0].image.shape[:2]
    lines = max(len(panel.lines) for panel in panels)
    row_inches = WIDTH_INCHES / columns * height / width + LINE_INCHES * lines + 0.12
    with figure_sheet(rows * row_inches + 0.4 * synthetic, synthetic=synthetic) as figure:
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, panel in zip(grid.flat, panels, strict=False):
            axes.imshow(panel.image)
            label = "\n".join(panel.lines)
            axes.set_title(label, fontsize=LABEL_POINTS, weight="normal", loc="left", color=INK, pad=3)
        for axes in grid.flat:
            axes.set_axis_off()
        return _with_palette(to_png(figure))


def _with_palette(png: bytes) -> bytes:
    """Return the picture in 256 colours: a third of the bytes, which are embedded in the page."""
    palette = Image.new("P", (1, 1))
    palette.putpalette(_palette())
    stream = io.BytesIO()
    reduced = Image.open(io.BytesIO(png)).convert("RGB").quantize(palette=palette, dither=Image.Dither.NONE)
    reduced.save(stream, format="png", optimize=True)
    return stream.getvalue()


def _palette() -> bytes:
    """Return 252 RGB colours: 64 greys, eleven strengths of heat over 17 greys each, and the stamp."""
    import matplotlib
    from matplotlib import colors

    # No grey between 247 and 255: Pillow looks colours up in steps of four, and 252 must become white.
    greys = np.repeat(np.append(np.linspace(0, 247 / 255, 63), 1)[:, None], 3, axis=1)
    heat = np.linspace(0.1, 1, 11)[:, None, None]
    under = np.linspace(0, 1, 17)[None, :, None]
    colours = matplotlib.colormaps[HEAT_COLOURS](heat[:, 0, 0])[:, None, :3]
    covered = under * (1 - HEAT_OPACITY * heat) + colours * HEAT_OPACITY * heat
    everything = np.concatenate([greys, covered.reshape(-1, 3), [colors.to_rgb(str(STAMP["facecolor"]))]])
    return bytes(np.rint(255 * everything).astype("uint8"))

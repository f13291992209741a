"""Images beside their heatmaps, several to a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

LABEL_POINTS, LINE_INCHES = 8.0, 0.15
HOW_TO_READ = "From dark to bright yellow: where the answer comes from. Uncoloured places hardly speak for it."


@dataclass(frozen=True, eq=False)
class Panel:
    """`image` (h, w, 3) in 0…1 under its `lines`."""

    lines: tuple[str, ...]
    image: "np.ndarray"


def beside(image: "np.ndarray", heat: "np.ndarray") -> "np.ndarray":
    """The image (S, S) uint8, and to its right the same under its heatmap (side, side) of 0…1: (S, 2 S, 3)."""
    import numpy as np

    return np.concatenate([to_rgb(image), overlay_heatmap(image, heat)], axis=1)


def heat_of(row: "pd.Series[Any]") -> "np.ndarray":
    """The heatmap (side, side) of a row of the evidence."""
    import numpy as np

    return np.asarray(row["heatmap"], dtype="float32").reshape(int(row["side"]), int(row["side"]))


def sheet(panels: Sequence[Panel], columns: int, *, synthetic: bool) -> bytes:
    """All panels as PNG, row by row."""
    rows = -(-len(panels) // columns)
    height, width = panels[0].image.shape[:2]
    lines = max(len(panel.lines) for panel in panels)
    each = WIDTH_INCHES / columns * height / width + LINE_INCHES * lines + 0.12
    with figure_sheet(rows * each + 0.4 * synthetic, synthetic=synthetic) as figure:
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, panel in zip(grid.flat, panels, strict=False):
            axes.imshow(panel.image)
            text = "\n".join(panel.lines)
            axes.set_title(text, fontsize=LABEL_POINTS, weight="normal", loc="left", color=INK, pad=3)
        for axes in grid.flat:
            axes.set_axis_off()
        return _fewer_colours(to_png(figure))


def _fewer_colours(png: bytes) -> bytes:
    """The picture in 256 colours: a third of the bytes, in a page that carries all of its pictures."""
    import io

    from PIL import Image

    palette = Image.new("P", (1, 1))
    palette.putpalette(_palette())
    stream = io.BytesIO()
    reduced = Image.open(io.BytesIO(png)).convert("RGB").quantize(palette=palette, dither=Image.Dither.NONE)
    reduced.save(stream, format="png", optimize=True)
    return stream.getvalue()


def _palette() -> bytes:
    """64 greys, eleven strengths of heat over 17 greys each, and the stamp: 252 colours, RGB by RGB."""
    import matplotlib
    import numpy as np
    from matplotlib.colors import to_rgb

    # nothing between 247 and 255: Pillow looks up colours by fours, and 252 has to go to white
    greys = np.repeat(np.append(np.linspace(0, 247 / 255, 63), 1)[:, None], 3, axis=1)
    heat = np.linspace(0.1, 1, 11)[:, None, None]
    under = np.linspace(0, 1, 17)[None, :, None]
    colours = matplotlib.colormaps[HEAT_COLOURS](heat[:, 0, 0])[:, None, :3]
    covered = under * (1 - HEAT_OPACITY * heat) + colours * HEAT_OPACITY * heat
    everything = np.concatenate([greys, covered.reshape(-1, 3), [to_rgb(str(STAMP["facecolor"]))]])
    return np.rint(255 * everything).astype("uint8").tobytes()

"""What every picture of the report is drawn on and with.

Drawn through matplotlib's objects, without pyplot: no global state, no display. Colours are Okabe and Ito's, told apart
by every common kind of colour vision.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cxr_platform.evaluation.table import SYNTHETIC

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, VERMILION, GREEN, INK, GREY = "#0072B2", "#D55E00", "#009E73", "#1a1a1a", "#595959"
STAMP = {"facecolor": "#7a0019", "edgecolor": "none", "boxstyle": "square,pad=0.45"}
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

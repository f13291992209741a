"""The lung field: one outline of the lungs for all images, in shares of the image's width and height.

It is the control of probes that hide the lungs as the segmenter finds them (`models.lung_segmenter`), whose shape a
black area still shows, and takes the place of lungs that are not found. It is a template, like the black rectangle of
Maguolo & Nanni 2020 (arXiv:2004.12823), but in the shape of a chest, and generous: with it blacked out nearly no lung
remains. It contains the heart and the spine, which lie between and in front of the deep parts of the lungs.

Measured on 140 phantoms, whose lungs are known: 96 % of an image's lung lies inside (86 % at the 5th percentile), and
38 % of the outline is not lung. On 100 images of the five public sources, inspected one by one, it contained the lungs
completely on about nine in ten. From the others it cuts a strip: the lowest corner of a child's lung, a lung that
reaches the edge of a tightly collimated image, one side of a patient far off the centre.
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

OUTLINE = np.array(
    [(0.06, 0.12), (0.10, 0.23), (0.22, 0.32), (0.40, 0.38), (0.60, 0.42), (0.80, 0.42), (0.84, 0.38)]
)  # fmt: skip
"""(distance from the image's upper edge in heights, half width of the outline in widths), joined by straight lines."""

Sizes: TypeAlias = NDArray[np.integer[Any]]
"""Widths or heights (N,) of original images; only the ratio of the two matters."""


def lung_fields(widths: Sizes, heights: Sizes, size: int) -> NDArray[np.bool_]:
    """Return (N, size, size), True inside the outline of letterboxed images; the padding is never part of the field."""
    across, down = _image_coordinates(widths, heights, size)
    half_width = np.interp(down, OUTLINE[:, 0], OUTLINE[:, 1], left=-1.0, right=-1.0)
    return np.asarray(np.abs(across - 0.5)[:, None, :] < half_width[:, :, None] + 1e-9)


def image_areas(widths: Sizes, heights: Sizes, size: int) -> NDArray[np.bool_]:
    """Return (N, size, size), True on the image itself, False on the black padding that makes it square."""
    on_width, on_height = ((axis > 0) & (axis < 1) for axis in _image_coordinates(widths, heights, size))
    return np.asarray(on_width[:, None, :] & on_height[:, :, None])


def field_shares(fields: NDArray[np.bool_], areas: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the share (N,) of each image's area, without padding, that lies in its lung field."""
    return np.asarray((fields & areas).sum(axis=(1, 2)) / areas.sum(axis=(1, 2)))


def _image_coordinates(widths: Sizes, heights: Sizes, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the positions on the image of each column and row of pixels, two (N, size); 0 and 1 are its edges.

    The rule is that of `intake.letterbox.letterbox`: the longer side fills the square, the image is centred.
    """
    longer = np.maximum(widths, heights)

    def positions(lengths: NDArray[np.float64]) -> NDArray[np.float64]:
        inner = np.maximum(1, np.rint(lengths))[:, None]
        return np.asarray((np.arange(size) + 0.5 - (size - inner) // 2) / inner)

    return positions(widths * size / longer), positions(heights * size / longer)

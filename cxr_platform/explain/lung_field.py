"""Where the lungs are, roughly: one outline for every image, in shares of the image's own width and height.

No trained segmentation can be had offline, so this is a template, as the black rectangle of Maguolo & Nanni 2020
(arXiv:2004.12823), drawn to the shape of a chest and generous, so that blacking it out leaves nearly no lung.
It holds the heart and the spine between the lungs, which the deep parts of the lungs lie before and behind.

Measured on 140 phantoms, whose lungs are known: 96 % of an image's lung lies inside (86 % on the worst twentieth) and
38 % of the outline is not lung. On 100 images of the five public sources, looked at one by one, it held the lungs
whole on about nine in ten. From the others it cuts a strip: the lowest corner of a child's lung, a lung that reaches
the edge of an image opened too closely, one side of a patient far off the centre.
"""

import numpy as np

OUTLINE = np.array(
    [(0.06, 0.12), (0.10, 0.23), (0.22, 0.32), (0.40, 0.38), (0.60, 0.42), (0.80, 0.42), (0.84, 0.38)]
)  # fmt: skip
"""(distance from the image's upper edge in heights, half width of the outline in widths), joined by straight lines."""


def lung_fields(widths: np.ndarray, heights: np.ndarray, size: int) -> np.ndarray:
    """bool (N, size, size), True inside the outline of letterboxed images; `widths` and `heights` (N,) of the originals.

    Only the ratio of the two matters; the padding round the image is never part of the field.
    """
    across, down = _image_coordinates(widths, heights, size)
    half_width = np.interp(down, OUTLINE[:, 0], OUTLINE[:, 1], left=-1.0, right=-1.0)
    return np.asarray(np.abs(across - 0.5)[:, None, :] < half_width[:, :, None] + 1e-9)


def image_areas(widths: np.ndarray, heights: np.ndarray, size: int) -> np.ndarray:
    """bool (N, size, size), True on the image itself, False on the black padding that makes it square."""
    across, down = _image_coordinates(widths, heights, size)
    on = [(axis > 0) & (axis < 1) for axis in (across, down)]
    return np.asarray(on[0][:, None, :] & on[1][:, :, None])


def field_shares(fields: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """Share (N,) of each image's own area, padding left out, that lies in its lung field."""
    return np.asarray((fields & areas).sum(axis=(1, 2)) / areas.sum(axis=(1, 2)))


def _image_coordinates(widths: np.ndarray, heights: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each column and row of pixels the place on the image, two (N, size): 0 and 1 are its edges.

    The same rule as `intake.letterbox.letterbox`: the longer side fills the square, the image is centred.
    """
    longer = np.maximum(widths, heights)
    return _axis(widths * size / longer, size), _axis(heights * size / longer, size)


def _axis(lengths: np.ndarray, size: int) -> np.ndarray:
    inner = np.maximum(1, np.rint(lengths))[:, None]
    return np.asarray((np.arange(size) + 0.5 - (size - inner) // 2) / inner)

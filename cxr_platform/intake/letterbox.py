"""Aspect kept, black background, one size (§2.1.4 of the paper: 200 × 200, "black background of 1:1 ratio")."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Box = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Letterboxed:
    """`pixels` (size, size) uint8; `box` is (left, top, right, bottom) of the image in it; the rest is black padding."""

    pixels: NDArray[np.uint8]
    padding_fraction: float
    box: Box

    @property
    def content(self) -> NDArray[np.uint8]:
        """The image without its padding."""
        left, top, right, bottom = self.box
        return self.pixels[top:bottom, left:right]


def letterbox(values: NDArray[np.uint8] | NDArray[np.float32], size: int) -> Letterboxed:
    """Fit an image, (height, width) in 0..255, into a black square of `size` pixels, centred; small images are enlarged.

    Pillow's Lanczos filter widens with the reduction factor, so that it is a proper low-pass filter: nothing aliases,
    and it keeps more of the fine vessels and ribs than averaging boxes does. Where a side is cut by more than three
    times, whole pixels are averaged first (`reducing_gap`), which changes no pixel visibly and is several times faster.
    It works on floats, because Pillow rounds and clips bytes between its two passes. An odd rest of padding goes to the
    right and to the bottom.
    """
    height, width = values.shape
    longer = max(height, width)
    inner = (max(1, round(width * size / longer)), max(1, round(height * size / longer)))
    image = Image.fromarray(values.astype(np.float32)).resize(inner, Image.Resampling.LANCZOS, reducing_gap=3.0)
    left, top = (size - inner[0]) // 2, (size - inner[1]) // 2
    box = (left, top, left + inner[0], top + inner[1])
    pixels = np.zeros((size, size), np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = np.clip(np.rint(np.asarray(image)), 0, 255)
    return Letterboxed(pixels, 1 - inner[0] * inner[1] / size**2, box)

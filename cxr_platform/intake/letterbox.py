"""Fit an image into a black square (§2.1.4 of the paper: 200 × 200, "black background of 1:1 ratio"), and resize it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

REDUCED_TO_AT_LEAST = 2
"""Times the side in the letterbox to which larger images are reduced before they are resized."""


@dataclass(frozen=True, eq=False)
class Letterboxed:
    """A letterboxed image.

    `pixels` is (size, size) uint8; `box` is (left, top, right, bottom) of the image in it; the rest is black padding.
    """

    pixels: NDArray[np.uint8]
    padding_fraction: float
    box: tuple[int, int, int, int]

    @property
    def content(self) -> NDArray[np.uint8]:
        """The image without its padding."""
        left, top, right, bottom = self.box
        return self.pixels[top:bottom, left:right]


def letterbox(values: NDArray[np.uint8] | NDArray[np.float32], size: int) -> Letterboxed:
    """Fit an image, (height, width) in 0..255, into the centre of a black square of `size` pixels.

    The aspect ratio is kept and small images are enlarged. Pillow's Lanczos filter widens with the reduction factor, so
    that nothing aliases, and keeps more of the fine vessels and ribs than a box filter. If a side shrinks to a quarter
    or less, whole pixels are averaged first: 0.1 of 255 apart on average, and twice as fast. Values are resized as
    floats, because Pillow rounds and clips bytes between its two passes. If the padding is odd, the larger part is at
    the right and at the bottom.
    """
    height, width = values.shape
    box = content_box(width, height, size)
    inner = (box[2] - box[0], box[3] - box[1])
    factors = [
        max(1, int(side / (REDUCED_TO_AT_LEAST * part))) for side, part in zip((width, height), inner, strict=True)
    ]
    image = Image.fromarray(values)
    if max(factors) > 1:
        image = image.reduce((factors[0], factors[1]))
    whole = (0.0, 0.0, width / factors[0], height / factors[1])  # the last averaged pixels may be in part outside
    image = image.convert("F").resize(inner, Image.Resampling.LANCZOS, box=whole)
    pixels = np.zeros((size, size), np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = np.clip(np.rint(np.asarray(image)), 0, 255)
    return Letterboxed(pixels, 1 - inner[0] * inner[1] / size**2, box)


def content_box(width: int, height: int, size: int) -> tuple[int, int, int, int]:
    """Return (left, top, right, bottom) of an image of `width` × `height` pixels in its letterbox of `size` pixels."""
    longer = max(height, width)
    inner = (max(1, round(width * size / longer)), max(1, round(height * size / longer)))
    left, top = (size - inner[0]) // 2, (size - inner[1]) // 2
    return left, top, left + inner[0], top + inner[1]


def without_padding(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Return the content of a letterboxed image, uint8 (size, size), that was `width` × `height` pixels large."""
    left, top, right, bottom = content_box(width, height, len(pixels))
    return pixels[top:bottom, left:right]


def resize_images(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize letterboxed images, uint8 (N, s, s), to the (N, size, size) that a network receives.

    Training and serving share this function. Pillow's Lanczos filter avoids aliasing.
    """
    if images.shape[1] == size:
        return images
    resized = np.empty((len(images), size, size), np.uint8)
    for row, image in enumerate(images):
        resized[row] = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS))
    return resized

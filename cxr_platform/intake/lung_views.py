"""Views of an image that hide what tells origins apart: the lungs alone, equalised.

`without-lungs` is the control: what a classifier reaches with it alone, it does not owe to the masked lungs.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr_platform.config import View
from cxr_platform.intake.letterbox import content_box, resize_images
from cxr_platform.intake.lung_field import lung_fields

Array = NDArray[Any]

GREY = 128
"""Value of what is hidden."""
AT_ONCE = 256
"""Images whose masks are in memory at a time."""


def lung_boxes(masks: Array, widths: Array, heights: Array) -> Array:
    """Return boxes (N, 4), left, top, right, bottom, of the lungs in letterboxed images whose masks are (N, S, S) bool.

    A mask has a True pixel. `widths` and `heights` (N,) are those of the files; a box does not reach into the padding.
    """
    boxes = np.empty((len(masks), 4), int)
    for row, mask in enumerate(masks):
        left, top, right, bottom = content_box(int(widths[row]), int(heights[row]), mask.shape[0])
        down, across = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        boxes[row] = (
            max(left, across[0]),
            max(top, down[0]),
            min(right, across[-1] + 1),
            min(bottom, down[-1] + 1),
        )
    return boxes


def cropped(images: Array, boxes: Array, size: int) -> Array:
    """Return the boxes (N, 4) of images, uint8 (N, S, S), each stretched to (size, size): no padding, no aspect."""
    parts = np.empty((len(images), size, size), np.uint8)
    for row, (image, box) in enumerate(zip(images, boxes, strict=True)):
        left, top, right, bottom = map(int, box)
        part = Image.fromarray(image[top:bottom, left:right])
        parts[row] = np.asarray(part.resize((size, size), Image.Resampling.BICUBIC))
    return parts


def equalised(image: Array, among: Array | None = None) -> Array:
    """Return a uint8 image whose grey values, or those where `among` is True, are equally frequent."""
    counted = np.bincount((image if among is None or not among.any() else image[among]).ravel(), minlength=256)
    levels = np.rint(counted.cumsum() * 255 / counted.sum()).astype(np.uint8)
    return np.asarray(levels[image])


def stacked_views(views: Sequence[View], images: Array, widths: Array, heights: Array, size: int) -> Array:
    """Return `views`, uint8 (N, V, size, size), of letterboxed images (N, S, S) of files `widths` × `heights` large.

    Training, reports and serving share this function; the lungs are those of `lung_fields`, in the same place for all.
    Boxes around the lungs that the segmenter finds were worse at unseen hospitals (`cxr benchmark robust`).
    """
    stacked = np.empty((len(images), len(views), size, size), np.uint8)
    for start in range(0, len(images), AT_ONCE):
        rows = slice(start, start + AT_ONCE)
        sides = widths[rows], heights[rows]
        masks = lung_fields(*sides, images.shape[1])
        for place, view in enumerate(views):
            stacked[rows, place] = image_views(view, images[rows], masks, *sides, size=size)
    return stacked


def image_views(view: View, images: Array, masks: Array, widths: Array, heights: Array, size: int) -> Array:
    """Return a view, uint8 (N, size, size), of letterboxed images (N, S, S) whose lungs are `masks`, bool (N, S, S)."""
    whole = resize_images(images, size)
    if view == "whole":
        return whole
    if view == "lungs":
        crops = cropped(images, lung_boxes(masks, widths, heights), size)
        return np.stack([equalised(crop) for crop in crops])
    hidden = resize_images(np.where(masks, np.uint8(255), np.uint8(0)), size) > 127
    rows = zip(whole, widths, heights, hidden, strict=True)
    return np.stack([_equalised_content(*row) for row in rows])


def _equalised_content(image: Array, width: int, height: int, hidden: Array) -> Array:
    """Return a letterboxed image that is equalised but for its padding, and grey where `hidden` is True."""
    left, top, right, bottom = content_box(int(width), int(height), len(image))
    inner = np.s_[top:bottom, left:right]
    shown = image.copy()
    shown[inner] = np.where(hidden[inner], np.uint8(GREY), equalised(image[inner], ~hidden[inner]))
    return shown

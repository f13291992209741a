"""Views of an image that hide what tells origins apart: the lungs alone, equalised, or with the look of another origin.

`without-lungs` is the control: what a classifier reaches with it alone, it does not owe to the masked lungs.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cxr_platform.config import View
from cxr_platform.intake.letterbox import content_box, resize_images
from cxr_platform.intake.lung_field import lung_fields

Array = NDArray[Any]

ShownView = View | Literal["mixed-lungs"]
"""A view to score, or one that heads of `lungs` are also trained on."""

GREY = 128
"""Value of what is hidden."""
AT_ONCE = 256
"""Images whose masks are in memory at a time."""

STRENGTH = (0.2, 5.0)
"""Bounds of the factors by which a spatial frequency is changed."""
MARKERS, MARKER_SHARE, BORDER_SHARE = "LRABD7P", 0.4, 0.3
BORDER_WIDTH = 0.12


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


def image_views(
    view: ShownView,
    images: Array,
    masks: Array,
    widths: Array,
    heights: Array,
    origins: Array | None = None,
    *,
    size: int,
    seed: int = 0,
) -> Array:
    """Return a view, uint8 (N, size, size), of letterboxed images (N, S, S) whose lungs are `masks`, bool (N, S, S).

    For `mixed-lungs`, `seed` draws the looks, and `origins` (N,) are those whose looks there are.
    """
    whole = resize_images(images, size)
    if view == "whole":
        return whole
    if view in ("lungs", "mixed-lungs"):
        crops = cropped(images, lung_boxes(masks, widths, heights), size)
        shown = np.stack([equalised(crop) for crop in crops])
        if view == "lungs":
            return shown
        assert origins is not None, "mixed-lungs have the looks of origins"
        return np.stack(list(mixed(shown, origins, seed)))
    hidden = resize_images(np.where(masks, np.uint8(255), np.uint8(0)), size) > 127
    rows = zip(whole, widths, heights, hidden, strict=True)
    return np.stack([_equalised_content(*row) for row in rows])


def mixed(images: Array, origins: Array, seed: int) -> Iterator[Array]:
    """Yield each image (N, S, S) with a look between its own and that of an image of any origin, drawn at random.

    A head that is judged at unseen origins and trained on these has met their looks, though not their classes.

    The look is the mean strength of each spatial frequency, which differs with device, compression and resizing (Yang &
    Soatto 2020 exchange the lowest frequencies alone). Letters and borders are painted in, the grey values bent.
    """
    random = np.random.default_rng([seed, 2])
    rings = _rings(images.shape[1])
    by_origin = [np.flatnonzero(origins == origin) for origin in np.unique(origins)]
    for image in images:
        other = images[random.choice(by_origin[random.integers(len(by_origin))])]
        spectrum, part = np.fft.fft2(image), random.random()
        own, their = (_strengths(each, rings) for each in (spectrum, np.fft.fft2(other)))
        factors = np.clip((their / own) ** part, *STRENGTH)
        factors[0] = 1
        changed = np.fft.ifft2(spectrum * factors[rings]).real
        low, high = changed.min(), max(float(np.ptp(changed)), 1e-6)
        values = equalised(np.rint((changed - low) / high * 255).astype(np.uint8)) / 255
        bent = np.clip(values + random.normal(0, random.uniform(0, 0.04), values.shape), 0, 1)
        yield _painted(np.rint(bent ** np.exp(random.uniform(-0.35, 0.35)) * 255).astype(np.uint8), random)


def _painted(image: Array, random: np.random.Generator) -> Array:
    """Return the image with a letter, a border at one edge, or both or none."""
    size = len(image)
    picture = Image.fromarray(image)
    if random.random() < MARKER_SHARE:
        where = tuple(random.uniform(0, 0.85, 2) * size)
        colour = int(random.choice([0, 255]))
        letter = str(random.choice(list(MARKERS)))
        ImageDraw.Draw(picture).text(where, letter, fill=colour, font_size=size * random.uniform(0.1, 0.25))
    painted = np.array(picture)
    if random.random() < BORDER_SHARE:
        turned = np.rot90(painted, random.integers(4))  # a view of the same pixels
        turned[: 1 + int(random.uniform(0, BORDER_WIDTH) * size)] = int(random.choice([0, 255]))
    return painted


def _rings(size: int) -> Array:
    """Return (size, size) int: the distance of each element of a Fourier transform from frequency 0."""
    along = np.minimum(np.arange(size), size - np.arange(size))
    return np.asarray(np.rint(np.hypot(along[:, None], along[None, :])), int)


def _strengths(spectrum: Array, rings: Array) -> Array:
    counts = np.bincount(rings.ravel())
    return np.asarray(np.bincount(rings.ravel(), np.abs(spectrum).ravel()) / counts + 1e-3)


def _equalised_content(image: Array, width: int, height: int, hidden: Array) -> Array:
    """Return a letterboxed image that is equalised but for its padding, and grey where `hidden` is True."""
    left, top, right, bottom = content_box(int(width), int(height), len(image))
    inner = np.s_[top:bottom, left:right]
    shown = image.copy()
    shown[inner] = np.where(hidden[inner], np.uint8(GREY), equalised(image[inner], ~hidden[inner]))
    return shown


def views_needed(views: Sequence[View], appearance: str) -> tuple[ShownView, ...]:
    """Return `views`, and `mixed-lungs` where heads of lungs are also trained on these."""
    extra: tuple[ShownView, ...] = ("mixed-lungs",) if appearance == "mixed" and "lungs" in views else ()
    return (*views, *extra)

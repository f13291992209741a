"""Training of the lung segmenter: images with masks, on phantoms or in folders, in strongly varied appearance."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from cxr_platform.intake.letterbox import content_box, letterbox
from cxr_platform.intake.phantoms.image import ImageKey, draw_image
from cxr_platform.labels import CLASSES
from cxr_platform.models.lung_segmenter import (
    PARTS,
    SIZE,
    Masks,
    Part,
    build_segmenter,
    compiled_by_xla,
    network_inputs,
)
from cxr_platform.progress import Progress

STORED = 128
"""Pixels of the squares from which training images are cut."""
PHANTOM_HEIGHT = 160
UNKNOWN = -1
BATCH, RATE = 32, 4e-3
TITLE = "Training the lung segmenter"


@dataclass(frozen=True, eq=False)
class LungImages:
    """Letterboxed images (n, STORED, STORED) uint8 and their `masks` (n, STORED, STORED, 2) int8.

    A mask is 1 on the lung, 0 elsewhere and `UNKNOWN` for a meaning of `PARTS` that the set does not have.
    """

    pixels: NDArray[np.uint8]
    masks: NDArray[np.int8]


def phantom_lungs(count: int, seed: int, progress: Progress) -> LungImages:
    """Draw `count` phantoms, the classes in turn, with the lungs that the drawer knows in both meanings."""
    pixels = np.zeros((count, STORED, STORED), np.uint8)
    masks = np.zeros((count, STORED, STORED, len(PARTS)), np.int8)
    for row in range(count):
        drawing = draw_image(ImageKey(seed, CLASSES[row % len(CLASSES)], row, 0), PHANTOM_HEIGHT)
        pixels[row] = letterbox(np.asarray(255 * drawing.picture, np.float32), STORED).pixels
        for channel, mask in enumerate((drawing.chest.aerated_lungs, drawing.chest.whole_lungs)):
            masks[row, ..., channel] = letterboxed_mask(mask, STORED)
        progress.step("Drawing phantoms with lungs", row + 1, count)
    return LungImages(pixels, masks)


def masks_of_part(masks: Masks, part: Part) -> NDArray[np.int8]:
    """Return masks (n, h, w) as those of `part` (n, h, w, 2), the other meaning `UNKNOWN`."""
    both = np.full((*masks.shape, len(PARTS)), UNKNOWN, np.int8)
    both[..., PARTS.index(part)] = masks
    return both


def letterboxed_mask(mask: Masks, size: int) -> Masks:
    """Return a mask (h, w) in a square of `size` pixels, where `letterbox` has its image."""
    left, top, right, bottom = content_box(mask.shape[1], mask.shape[0], size)
    grey = Image.fromarray(mask.astype("float32")).resize((right - left, bottom - top), Image.Resampling.BILINEAR)
    square = np.zeros((size, size), bool)
    square[top:bottom, left:right] = np.asarray(grey) > 0.5
    return square


def train_segmenter(images: Sequence[LungImages], steps: int, seed: int, progress: Progress) -> keras.Model:
    """Return a network trained on the sets of `images`, each of which is in every batch to the same share."""
    network = build_segmenter(seed)
    schedule = keras.optimizers.schedules.CosineDecay(RATE, steps)
    network.compile(keras.optimizers.Adam(schedule), segmentation_loss, jit_compile=compiled_by_xla())
    for done, (inputs, masks) in enumerate(_batches(images, steps, np.random.default_rng([seed, 17])), 1):
        network.train_on_batch(inputs, masks)
        progress.step(TITLE, done, steps)
    return network


def segmentation_loss(masks: keras.KerasTensor, predicted: keras.KerasTensor) -> keras.KerasTensor:
    """Return cross-entropy plus 1 − Dice over the pixels and meanings that are known."""
    known = keras.ops.cast(masks >= 0, "float32")
    wanted = keras.ops.maximum(keras.ops.cast(masks, "float32"), 0.0)
    sure = keras.ops.clip(predicted, 1e-6, 1 - 1e-6)
    entropy = -(wanted * keras.ops.log(sure) + (1 - wanted) * keras.ops.log(1 - sure)) * known
    both = keras.ops.sum(wanted * predicted * known)
    either = keras.ops.sum((wanted + predicted) * known)
    dice = (2 * both + 1) / (either + 1)
    return keras.ops.sum(entropy) / keras.ops.maximum(keras.ops.sum(known), 1.0) + 1 - dice


def _batches(
    images: Sequence[LungImages], steps: int, rng: np.random.Generator
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    for _ in range(steps):
        cut = []
        for position in range(BATCH):
            chosen = images[position % len(images)]
            row = rng.integers(len(chosen.pixels))
            cut.append(varied(chosen.pixels[row], chosen.masks[row], rng))
        yield network_inputs([pixels for pixels, _ in cut])[..., None], np.stack([mask for _, mask in cut])


def varied(
    pixels: NDArray[np.uint8], masks: NDArray[np.int8], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return an image (SIZE, SIZE) and its masks (SIZE, SIZE, 2), moved, bent and changed in appearance at random."""
    import cv2

    across, down = _places(rng)
    image = cv2.remap(pixels.astype("float32") / 255, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    moved = cv2.remap(masks.astype("float32"), across, down, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)
    unknown = (masks == UNKNOWN).all(axis=(0, 1))
    moved[..., unknown] = UNKNOWN  # also beyond the border
    return changed_appearance(image, rng), moved


def _places(rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return where each pixel of the result comes from: turned, scaled, shifted, mirrored, and bent smoothly."""
    angle = np.deg2rad(rng.normal(0, 6))
    scale = np.exp(rng.uniform(-0.28, 0.28)) * np.exp(rng.uniform(-0.16, 0.16) * np.array([1, -1]))
    if rng.random() < 0.5:
        scale[0] = -scale[0]
    grid = (np.arange(SIZE) + 0.5) / SIZE - 0.5
    x, y = np.meshgrid(grid / scale[0], grid / scale[1])
    bent = [_smooth_noise(SIZE, rng.integers(3, 7), rng) * rng.uniform(0, 0.025) for _ in range(2)]
    x, y = x + bent[0], y + bent[1]
    shift = rng.uniform(-0.1, 0.1, 2)
    across = np.cos(angle) * x - np.sin(angle) * y + shift[0]
    down = np.sin(angle) * x + np.cos(angle) * y + shift[1]
    return ((across + 0.5) * STORED - 0.5).astype("float32"), ((down + 0.5) * STORED - 0.5).astype("float32")


def changed_appearance(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return an image (SIZE, SIZE) of 0…1 with other grey values, noise, sharpness, borders and text."""
    image = np.clip(image, 0, 1) ** np.exp(rng.uniform(-0.9, 0.9))
    if rng.random() < 0.7:  # a monotonic curve of random steps
        knots = np.cumsum(rng.uniform(0.05, 1, 7))
        image = np.interp(image, np.linspace(0, 1, 7), (knots - knots[0]) / (knots[-1] - knots[0]))
    if rng.random() < 0.6:
        image = image + rng.uniform(0.05, 0.35) * _smooth_noise(SIZE, rng.integers(2, 7), rng)
    if rng.random() < 0.4:  # local equalisation, as of CLAHE
        image = image - rng.uniform(0.2, 0.9) * ndimage.gaussian_filter(image, rng.uniform(4, 14))
    if rng.random() < 0.4:  # opacities of any kind
        image = image + _patches(rng)
    if rng.random() < 0.5:
        image = ndimage.gaussian_filter(image, rng.uniform(0.3, 1.6))
    elif rng.random() < 0.4:
        image = image + rng.uniform(0.5, 2) * (image - ndimage.gaussian_filter(image, 1.0))
    low, high = np.percentile(image, [rng.uniform(0, 4), rng.uniform(94, 100)])
    image = np.clip((image - low) / max(high - low, 1e-3), 0, 1)
    if rng.random() < 0.5:
        image = image + rng.normal(0, rng.uniform(0.01, 0.08), image.shape)
    if rng.random() < 0.12:
        image = 1 - image
    return _annotated(image.astype("float32"), rng)


def _patches(rng: np.random.Generator) -> NDArray[np.float64]:
    total = np.zeros((SIZE, SIZE))
    y, x = np.mgrid[:SIZE, :SIZE]
    for _ in range(rng.integers(1, 5)):
        middle, width = rng.uniform(0.1, 0.9, 2) * SIZE, rng.uniform(0.04, 0.2, 2) * SIZE
        across, down = (x - middle[0]) / width[0], (y - middle[1]) / width[1]
        total += rng.uniform(0.1, 0.6) * np.exp(-(across**2) - down**2)
    return total


def _annotated(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the image with black or white borders, letters, wires and boxes at random."""
    if rng.random() < 0.3:
        border, value = np.ones_like(image, bool), rng.choice([0.0, 0.0, 1.0])
        top, bottom, left, right = (rng.uniform(0, 0.08, 4) * SIZE).astype(int)
        border[top : SIZE - bottom, left : SIZE - right] = False
        image = np.where(border, np.float32(value), image)
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    for _ in range(rng.integers(0, 4)):
        text = "".join(rng.choice(list("LRAPDMSW0123456789"), rng.integers(1, 7)))
        font = ImageFont.load_default(int(rng.integers(6, 14)))
        draw.text(tuple(rng.uniform(-0.05, 0.9, 2) * SIZE), text, fill=float(rng.uniform(-0.1, 1.2)), font=font)
    for _ in range(rng.integers(0, 3)):
        line = [tuple(point) for point in (rng.uniform(0, 1, (4, 2)) * SIZE).tolist()]
        draw.line(line, fill=float(rng.uniform(0.5, 1.2)), width=1, joint="curve")
    return np.asarray(canvas, "float32")


def _smooth_noise(size: int, cells: int, rng: np.random.Generator) -> NDArray[np.float32]:
    coarse = Image.fromarray(rng.standard_normal((int(cells), int(cells)), dtype="float32"))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), "float32")

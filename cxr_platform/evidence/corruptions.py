"""The winner's out-of-fold answers on images that were changed: contrast, blur, JPEG, rotation, crop, marker text.

Each kind has three strengths, and few images are drawn, because every one is answered 19 times. Images are changed in
the input size of the network, so that a strength means the same for a large file and for a small one (Hendrycks &
Dietterich 2019, arXiv:1903.12261); the views of `robust` are made of the changed image.
"""

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from cxr_platform.domain.predictions import probability_columns
from cxr_platform.evaluation.predictions import Array
from cxr_platform.evidence.explanations import images_of, sampled_rows
from cxr_platform.evidence.fold_networks import fold_networks, images_for
from cxr_platform.evidence.lung_regions import sides
from cxr_platform.evidence.open_study import OpenStudy
from cxr_platform.labels import CLASSES
from cxr_platform.training.trial import predict_images

IMAGES_PER_CLASS = 15
TITLE = "Changed images"
CLEAN = "none"

Pixels = NDArray[np.uint8]


def with_contrast(image: Pixels, kept: float) -> Pixels:
    """Return an image (S, S) whose grey values deviate from their mean by `kept` % of what they did."""
    mean = image.mean()
    return _grey(mean + (image - mean) * kept / 100)


def blurred(image: Pixels, sigma: float) -> Pixels:
    """Return the image after a Gaussian filter whose deviation is `sigma` % of the side."""
    return _grey(ndimage.gaussian_filter(image.astype("float32"), sigma / 100 * len(image)))


def as_jpeg(image: Pixels, quality: float) -> Pixels:
    """Return the image as it is after storage as a JPEG of this `quality` (1 to 95)."""
    stored = io.BytesIO()
    Image.fromarray(image).save(stored, "JPEG", quality=int(quality))
    return np.asarray(Image.open(stored))


def rotated(image: Pixels, degrees: float) -> Pixels:
    """Return the image turned counter-clockwise about its centre; the corners become black."""
    return np.asarray(Image.fromarray(image).rotate(degrees, Image.Resampling.BILINEAR))


def cropped(image: Pixels, cut: float) -> Pixels:
    """Return the image without `cut` % of the side at each edge, enlarged to its size."""
    size = len(image)
    margin = cut / 100 * size
    box = (margin, margin, size - margin, size - margin)
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, box=box))


def with_marker(image: Pixels, height: float) -> Pixels:
    """Return the image with white letters in a font of `height` % of the side, in the upper left corner."""
    canvas, size = Image.fromarray(image), len(image)
    font = ImageFont.load_default(height / 100 * size)
    ImageDraw.Draw(canvas).text((0.03 * size, 0.03 * size), "L  AP 07:30", fill=255, font=font)
    return np.asarray(canvas)


CORRUPTIONS: Mapping[str, tuple[Callable[[Pixels, float], Pixels], tuple[float, ...]]] = {
    "contrast": (with_contrast, (70, 40, 20)),
    "blur": (blurred, (0.5, 1.5, 4)),
    "jpeg": (as_jpeg, (60, 25, 8)),
    "rotation": (rotated, (5, 15, 30)),
    "crop": (cropped, (4, 10, 16)),
    "marker": (with_marker, (5, 10, 18)),
}
"""Kind → its function and its strengths, the weakest first; `evaluation.sections.corruptions` has their units."""


def corrupted_predictions(opened: OpenStudy) -> Mapping[str, pa.Table]:
    """Return table `corruptions`: up to 15 images per class, unchanged and in each kind and strength, by the winner.

    Raise `WeightsError` if the winner needs ImageNet weights that cannot be found.
    """
    predictions, winner = opened.predictions, opened.winner
    rows = sampled_rows(opened, IMAGES_PER_CLASS)
    changes = [(CLEAN, 0.0), *((kind, s) for kind, (_, strengths) in CORRUPTIONS.items() for s in strengths)]
    parts, done = [], 0
    for fold, network in fold_networks(opened, winner, np.unique(predictions.fold[rows]).tolist()):
        mine = rows[predictions.fold[rows] == fold]
        images = images_of(opened, mine)
        every = np.concatenate([changed(images, kind, strength) for kind, strength in changes])  # full batches
        widths, heights = (np.tile(side, len(changes)) for side in sides(opened, predictions.image_id[mine]))
        shown = images_for(opened, winner, every, widths, heights)
        answers = np.split(predict_images(network, shown), len(changes))
        for (kind, strength), probabilities in zip(changes, answers, strict=True):
            parts.append(_table(opened, mine, fold, kind, strength, probabilities))
        done += len(mine)
        opened.progress.step(TITLE, done, len(rows))
    return {"corruptions": pa.concat_tables(parts)}


def changed(images: Array, kind: str, strength: float) -> Array:
    """Return images (n, S, S) uint8 changed by a kind of `CORRUPTIONS`, or as they are for `CLEAN`."""
    if kind == CLEAN or not len(images):
        return images
    change = CORRUPTIONS[kind][0]
    return np.stack([change(image, strength) for image in images])


def _table(opened: OpenStudy, rows: Array, fold: int, kind: str, strength: float, probabilities: Array) -> pa.Table:
    predictions = opened.predictions
    return pa.table(
        {
            "corruption": [kind] * len(rows),
            "strength": np.full(len(rows), float(strength)),
            "image_id": predictions.image_id[rows].astype(str),
            "label": np.array(CLASSES)[predictions.label[rows]],
            "strategy": [opened.winner] * len(rows),
            "fold": np.full(len(rows), fold, "int32"),
            **probability_columns(probabilities),
        }
    )


def _grey(values: NDArray[np.floating[Any]]) -> Pixels:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)

"""A small U-Net (Ronneberger et al. 2015, arXiv:1505.04597) that outlines the lungs of a frontal radiograph.

It has two outputs, because "lung" is used in two meanings: `aerated`, the fields beside heart and diaphragm, and
`whole`, which includes what lies behind the heart. The weights in the package were trained on phantoms
(`training.lungs`); docs/results has their Dice coefficients on real images.
"""

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import keras
import numpy as np
from numpy.typing import NDArray

from cxr_platform.errors import WeightsError
from cxr_platform.validation import Record, parse_record

Part = Literal["aerated", "whole"]
PARTS: tuple[Part, ...] = get_args(Part)
SIZE = 96
"""Pixels of the square in which the network sees an image."""
CHANNELS = (16, 32, 64)
"""Of each level: the first has half of `SIZE`, each further one half of the one before."""
BATCH = 64
SMALLEST, LARGEST, SMALLER_TO_LARGER = 0.012, 0.42, 0.15
"""Plausible lungs: the share of the image that one of the two may cover, and how much smaller one may be."""
PACKAGED = "lung_weights.npz"
HEADER = "header"
ADVICE = "Train it again: cxr lungs train --phantoms 300 --steps 260 --out FILE."

Masks: TypeAlias = NDArray[np.bool_]


class LungWeightsHeader(Record):
    """What a file of weights says of itself: `sha256` of its arrays, the sets of images trained on, and the meanings of
    lung (`parts`) that their masks have. `trained_images` are 16 hex digits of the SHA-256 of each image file.
    """

    schema_version: Literal[1] = 1
    size: int
    channels: tuple[int, ...]
    sha256: str
    trained_on: tuple[str, ...]
    parts: tuple[Part, ...]
    left_out_fold: str | None = None
    trained_images: tuple[str, ...] = ()
    steps: int
    seed: int


def lung_masks(pixels: NDArray[np.uint8], part: Part = "whole") -> Masks:
    """Return the lungs of images (n, h, w), bool of the same shape, by the network in the package.

    An image without plausible lungs (not two of them, or far too small or too large) has no True pixel at all.
    """
    return masks_of(packaged_segmenter()[0], pixels, part)


def masks_of(network: keras.Model, pixels: NDArray[np.uint8], part: Part = "whole") -> Masks:
    """As `lung_masks`, by another network."""
    raw = lung_probabilities(network, pixels)[..., PARTS.index(part)]
    masks = np.zeros(pixels.shape, bool)
    for row, probability in enumerate(raw):
        masks[row] = two_lungs(_resized(probability, *_square(pixels[row]).shape) > 0.5, pixels[row].shape)
    return masks


def lung_probabilities(network: keras.Model, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (n, SIZE, SIZE, 2): the probability that a pixel of the padded, reduced image (n, h, w) is of `PARTS`."""
    parts = [np.zeros((0, SIZE, SIZE, len(PARTS)), "float32")]
    for start in range(0, len(pixels), BATCH):
        batch = pixels[start : start + BATCH]
        inputs = np.zeros((BATCH, SIZE, SIZE, 1), "float32")  # one shape, compiled once
        inputs[: len(batch), ..., 0] = network_inputs([_resized(_square(image), SIZE, SIZE) for image in batch])
        parts.append(np.asarray(network.predict_on_batch(inputs))[: len(batch)])
    return np.concatenate(parts)


def network_inputs(images: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """Return images of one size, each scaled to mean 0 and deviation 1."""
    values = np.asarray(images, "float32")
    values = values - values.mean(axis=(1, 2), keepdims=True)
    return np.asarray(values / np.maximum(values.std(axis=(1, 2), keepdims=True), 1e-3), "float32")


def two_lungs(mask: Masks, shape: tuple[int, ...]) -> Masks:
    """Return the two largest connected parts of a padded square without their holes, cut to `shape`; none if not two
    lungs.
    """
    from scipy import ndimage

    top, left = ((side - length) // 2 for side, length in zip(mask.shape, shape, strict=True))
    mask = mask[top : top + shape[0], left : left + shape[1]]
    labels, count = ndimage.label(mask)
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:] / mask.size
    order = np.argsort(areas)[::-1][:2]
    if len(order) < 2 or areas[order[0]] > LARGEST:
        return np.zeros_like(mask)
    if areas[order[1]] < max(SMALLEST, SMALLER_TO_LARGER * areas[order[0]]):
        return np.zeros_like(mask)
    return np.asarray(ndimage.binary_fill_holes(np.isin(labels, order + 1)))


def build_segmenter(seed: int = 0) -> keras.Model:
    """Return the untrained network: (B, SIZE, SIZE, 1), mean 0 and deviation 1 → probabilities (B, SIZE, SIZE, 2)."""
    seeds = iter(range(1000 * seed, 1000 * seed + 1000))

    def convolved(x: Any, channels: int) -> Any:
        for _ in range(2):
            start = keras.initializers.HeNormal(next(seeds))
            x = keras.layers.Conv2D(channels, 3, padding="same", use_bias=False, kernel_initializer=start)(x)
            x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(x))
        return x

    images = keras.Input((SIZE, SIZE, 1), name="images")
    start = keras.initializers.HeNormal(next(seeds))
    x = keras.layers.Conv2D(CHANNELS[0], 5, 2, padding="same", activation="relu", kernel_initializer=start)(images)
    passed = []
    for channels in CHANNELS[:-1]:
        passed.append(convolved(x, channels))
        x = keras.layers.MaxPooling2D()(passed[-1])
    x = convolved(x, CHANNELS[-1])
    for channels, skip in zip(CHANNELS[-2::-1], passed[::-1], strict=True):
        x = keras.layers.UpSampling2D(interpolation="bilinear")(x)
        x = convolved(keras.layers.Concatenate()([x, skip]), channels)
    start = keras.initializers.GlorotUniform(next(seeds))
    x = keras.layers.Conv2D(len(PARTS), 1, kernel_initializer=start)(x)
    x = keras.layers.UpSampling2D(interpolation="bilinear")(x)
    network = keras.Model(images, keras.layers.Activation("sigmoid")(x))
    network.compile(jit_compile=compiled_by_xla())
    return network


def compiled_by_xla() -> bool:
    """Return Keras' argument `jit_compile`: JAX always uses XLA; TensorFlow on a processor is twice as fast without."""
    return bool(keras.backend.backend() == "jax")


@lru_cache(maxsize=1)
def packaged_segmenter() -> tuple[keras.Model, LungWeightsHeader]:
    """Return the network with the weights in the package, and their header."""
    return read_segmenter(resources.files("cxr_platform.models").joinpath(PACKAGED).read_bytes(), PACKAGED)


def load_segmenter(path: Path) -> tuple[keras.Model, LungWeightsHeader]:
    """Return the network of a file written by `segmenter_bytes`, and its header; raise `WeightsError` otherwise."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"Expected weights of the lung segmenter at {path}.", received=error.strerror) from error
    return read_segmenter(content, str(path))


def read_segmenter(content: bytes, where: str) -> tuple[keras.Model, LungWeightsHeader]:
    """Return the network of a file's bytes; raise `WeightsError` unless its arrays are whole and fit the network."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            stored = {name: file[name] for name in file.files}
        header = bytes(stored.pop(HEADER))
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        message = f"Expected undamaged weights of the lung segmenter in {where}."
        raise WeightsError(message, received=error, advice=ADVICE) from error
    known = parse_record(LungWeightsHeader, header, where, WeightsError, ADVICE)
    arrays = [stored[name] for name in sorted(stored)]
    if _digest(arrays) != known.sha256:
        raise WeightsError(f"Expected arrays with the SHA-256 {known.sha256} in {where}.", advice=ADVICE)
    network = build_segmenter()
    expected = [tuple(variable.shape) for variable in network.variables]
    received = [array.shape for array in arrays]
    if (known.size, known.channels) != (SIZE, CHANNELS) or received != expected:
        raise WeightsError(
            f"Expected the arrays of a network of {SIZE} pixels with {CHANNELS} channels in {where}.",
            received=f"{known.size} pixels with {known.channels} channels, {len(received)} arrays",
            advice=ADVICE,
        )
    if not all(np.isfinite(array).all() for array in arrays):
        raise WeightsError(f"Expected finite numbers in {where}.", advice=ADVICE)
    network.set_weights([array.astype("float32") for array in arrays])
    return network, known


def segmenter_bytes(
    network: keras.Model,
    trained_on: Sequence[str],
    steps: int,
    seed: int,
    *,
    parts: Sequence[Part] = PARTS,
    left_out_fold: str | None = None,
    trained_images: Sequence[str] = (),
) -> bytes:
    """Return the bytes of a file with the weights as float16 and a header."""
    arrays = [np.asarray(values).astype("float16") for values in network.get_weights()]
    header = LungWeightsHeader(
        size=SIZE,
        channels=CHANNELS,
        sha256=_digest(arrays),
        trained_on=tuple(trained_on),
        parts=tuple(parts),
        left_out_fold=left_out_fold,
        trained_images=tuple(trained_images),
        steps=steps,
        seed=seed,
    )
    content = io.BytesIO()
    text = np.frombuffer(json.dumps(header.model_dump(mode="json")).encode(), np.uint8)
    np.savez_compressed(content, **{HEADER: text}, **{f"{i:03d}": array for i, array in enumerate(arrays)})
    return content.getvalue()


def _digest(arrays: Sequence[NDArray[Any]]) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def _square(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the image in the middle of a black square."""
    height, width = image.shape
    side = max(height, width)
    square = np.zeros((side, side), image.dtype)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = image
    return square


def _resized(image: NDArray[Any], height: int, width: int) -> NDArray[np.float32]:
    from PIL import Image

    picture = Image.fromarray(image.astype("float32"))
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR), "float32")

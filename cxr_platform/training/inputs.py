"""What a trial trains on: images, or frozen activations at the cut. Arrays may be read-only views.

A batch is described by an index, a few bytes per image, and gathered from the arrays by the compiled step where they
are on its device, or on the host where they are too large for it.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from cxr_platform.config import AugmentationConfig
from cxr_platform.models.augment import draw_transforms, rotation_and_shift

Batch = tuple[NDArray[Any], ...]
"""Images (B, S, S) uint8 and transforms (B, 8) float32, or activations (B, …) float16 alone."""

Index = tuple[NDArray[Any], ...]
"""Positions (B,) int32 in `Inputs.arrays`, then what else belongs to a batch: transforms (B, 8) for images."""


RESIZED_AT_ONCE = 256
"""Images in memory as floats while they are resized."""


class Inputs(Protocol):
    """The examples of a study by the row numbers of its images."""

    @property
    def arrays(self) -> Sequence[NDArray[Any]]:
        """Arrays (n, …) from which batches are gathered; positions count through all of them in order."""
        ...

    def training_index(self, rows: NDArray[Any], rng: np.random.Generator) -> Index:
        """Return the index of a batch of augmented images of `rows`."""
        ...

    def clean_index(self, rows: NDArray[Any]) -> Index:
        """Return the index of the images of `rows` without augmentation."""
        ...

    def resized(self, side: int) -> "Inputs":
        """Return the same images with `side` pixels on a side."""
        ...


class ImageInputs:
    """Batches (images, transforms) of uint8 images (N, S, S), which are warped on the device."""

    def __init__(self, images: NDArray[Any], augmentation: AugmentationConfig) -> None:
        self.arrays = (images,)
        self._augmentation = augmentation

    def training_index(self, rows: NDArray[Any], rng: np.random.Generator) -> Index:
        """Return the rows and new random transforms."""
        transforms = draw_transforms(rng, len(rows), self.arrays[0].shape[1], self._augmentation)
        return rows.astype("int32"), transforms

    def clean_index(self, rows: NDArray[Any]) -> Index:
        """Return the rows and identity transforms."""
        zeros = np.zeros(len(rows))
        return rows.astype("int32"), rotation_and_shift(zeros, zeros, zeros, self.arrays[0].shape[1])

    def resized(self, side: int) -> "ImageInputs":
        """Return the images at `side` × `side`, by Lanczos with antialiasing (https://keras.io/api/ops/image/)."""
        (images,) = self.arrays
        smaller = np.empty((len(images), side, side), "uint8")
        for start in range(0, len(images), RESIZED_AT_ONCE):
            part = images[start : start + RESIZED_AT_ONCE, :, :, None].astype("float32")
            resized = keras.ops.image.resize(
                part, (side, side), interpolation="lanczos3", antialias=True, data_format="channels_last"
            )
            smaller[start : start + len(part)] = np.clip(np.rint(np.asarray(resized)[..., 0]), 0, 255)
        return ImageInputs(smaller, self._augmentation)


class FrozenInputs:
    """Batches of activations in chunks (1 + views, n, …) float16, in row order; view 0 is without augmentation.

    The chunks stay in the shared memory of the object store.
    """

    def __init__(self, chunks: Sequence[NDArray[Any]]) -> None:
        self.arrays = [chunk.reshape(-1, *chunk.shape[2:]) for chunk in chunks]
        self._lengths = np.array([chunk.shape[1] for chunk in chunks])
        self._starts = np.cumsum([0, *self._lengths])
        self._views = chunks[0].shape[0]

    def training_index(self, rows: NDArray[Any], rng: np.random.Generator) -> Index:
        """Return a random view of each image, augmented or not."""
        return (self._positions(rows, rng.integers(0, self._views, len(rows))),)

    def clean_index(self, rows: NDArray[Any]) -> Index:
        """Return view 0 of each image."""
        return (self._positions(rows, np.zeros(len(rows), int)),)

    def resized(self, side: int) -> "FrozenInputs":
        """Raise `ValueError`: activations have no size of their own."""
        raise ValueError(f"expected images to resize to {side} px, received frozen activations")

    def _positions(self, rows: NDArray[Any], views: NDArray[Any]) -> NDArray[Any]:
        chunk = np.searchsorted(self._starts, rows, side="right") - 1
        within = rows - self._starts[chunk]
        positions: NDArray[Any] = self._views * self._starts[chunk] + views * self._lengths[chunk] + within
        return positions.astype("int32")


def gather(arrays: Sequence[NDArray[Any]], positions: NDArray[Any]) -> NDArray[Any]:
    """Return the rows at `positions` (B,) of `arrays`, as if these were one array."""
    if len(arrays) == 1:
        return np.take(arrays[0], positions, axis=0)
    starts = np.cumsum([0, *map(len, arrays)])
    which = np.searchsorted(starts, positions, side="right") - 1
    rows = np.empty((len(positions), *arrays[0].shape[1:]), arrays[0].dtype)
    for number in np.unique(which):
        chosen = which == number
        rows[chosen] = arrays[number][positions[chosen] - starts[number]]
    return rows


def clean_batch(inputs: Inputs, rows: NDArray[Any]) -> Batch:
    """Return the images of `rows` without augmentation, gathered on the host."""
    positions, *others = inputs.clean_index(rows)
    return gather(inputs.arrays, positions), *others

"""Batches of a trial: images, or frozen activations at the cut. NumPy only; arrays may be read-only views."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cxr_platform.config import AugmentationConfig
from cxr_platform.models.augment import draw_transforms, rotation_and_shift

Batch = tuple[NDArray[Any], ...]


class Inputs(Protocol):
    """Batches by row numbers of the study images."""

    def training_batch(self, rows: NDArray[Any], rng: np.random.Generator) -> Batch:
        """Return augmented images of `rows`, as the compiled step takes them."""
        ...

    def clean_batch(self, rows: NDArray[Any]) -> Batch:
        """Return the images of `rows` without augmentation."""
        ...


class ImageInputs:
    """Batches (images, transforms) of uint8 images (N, S, S), which are warped on the device."""

    def __init__(self, images: NDArray[Any], augmentation: AugmentationConfig) -> None:
        self._images = images
        self._augmentation = augmentation

    def training_batch(self, rows: NDArray[Any], rng: np.random.Generator) -> Batch:
        """Return images and new random transforms."""
        transforms = draw_transforms(rng, len(rows), self._images.shape[1], self._augmentation)
        return self._images[rows], transforms

    def clean_batch(self, rows: NDArray[Any]) -> Batch:
        """Return images and identity transforms."""
        zeros = np.zeros(len(rows))
        return self._images[rows], rotation_and_shift(zeros, zeros, zeros, self._images.shape[1])


class FrozenInputs:
    """Batches of activations in chunks (1 + views, n, …) float16, in row order; view 0 is without augmentation.

    The chunks stay in the shared memory of the object store: only batches are copied.
    """

    def __init__(self, chunks: Sequence[NDArray[Any]]) -> None:
        self._chunks = list(chunks)
        self._starts = np.cumsum([0, *(chunk.shape[1] for chunk in chunks)])
        self._views = chunks[0].shape[0]

    def training_batch(self, rows: NDArray[Any], rng: np.random.Generator) -> Batch:
        """Return a random view of each image, augmented or not."""
        return (self._gather(rows, rng.integers(0, self._views, len(rows))),)

    def clean_batch(self, rows: NDArray[Any]) -> Batch:
        """Return view 0 of each image."""
        return (self._gather(rows, np.zeros(len(rows), int)),)

    def _gather(self, rows: NDArray[Any], views: NDArray[Any]) -> NDArray[Any]:
        chunk_of = np.searchsorted(self._starts, rows, side="right") - 1
        within = rows - self._starts[chunk_of]
        return np.stack([self._chunks[c][v, r] for c, v, r in zip(chunk_of, views, within, strict=True)])

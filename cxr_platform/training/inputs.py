"""What a trial trains on: images, or frozen activations at the cut. Arrays may be read-only views.

A batch is described by an index, a few bytes per image, and gathered from the arrays by the compiled step where they
are on its device, or on the host where they are too large for it.
"""

from collections.abc import Callable, Sequence
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

FILES_AT_ONCE = 16
"""Files among which the training images of a batch are drawn, where not all of them are in memory."""


class StoredArray(Protocol):
    """An array of which only the rows that are asked for are read (`array_files`, `image_files`)."""

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102

    @property
    def dtype(self) -> Any: ...  # noqa: D102

    @property
    def nbytes(self) -> int: ...  # noqa: D102

    @property
    def identity(self) -> str:
        """What two objects share that have the same values in the same shape."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any) -> NDArray[Any]: ...

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]: ...


class StoredChunk(StoredArray, Protocol):
    """Activations in a file."""

    def reshape(self, *shape: int) -> "StoredChunk":
        """Return the same values in another shape."""
        ...


class StoredImages(StoredArray, Protocol):
    """Images in a file."""

    def resized(self, side: int, resize: Callable[[NDArray[Any], int], NDArray[Any]]) -> "StoredImages":
        """Return the images as `resize(images, side)` makes them."""
        ...


Array = NDArray[Any] | StoredArray


class Inputs(Protocol):
    """The examples of a study by the row numbers of its images."""

    @property
    def arrays(self) -> Sequence[Array]:
        """Arrays (n, …) from which batches are gathered; positions count through all of them in order."""
        ...

    def training_index(self, rows: NDArray[Any], rng: np.random.Generator) -> Index:
        """Return the index of a batch of augmented images of `rows`."""
        ...

    def clean_index(self, rows: NDArray[Any]) -> Index:
        """Return the index of the images of `rows` without augmentation."""
        ...

    def files(self, rows: NDArray[Any]) -> NDArray[Any] | None:
        """Return the number of the file that each of `rows` is in, or `None` if reading them costs nothing."""
        ...

    def resized(self, side: int) -> "Inputs":
        """Return the same images with `side` pixels on a side."""
        ...


class ImageInputs:
    """Batches (images, transforms) of uint8 images (N, S, S), which are warped on the device."""

    def __init__(self, images: NDArray[Any] | StoredImages, augmentation: AugmentationConfig) -> None:
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

    def files(self, rows: NDArray[Any]) -> None:
        """Return `None`: images are small enough to be read in any order."""

    def resized(self, side: int) -> "ImageInputs":
        """Return the images at `side` × `side` (`resize_bytes`)."""
        (images,) = self.arrays
        smaller = resize_bytes(images, side) if isinstance(images, np.ndarray) else images.resized(side, resize_bytes)
        return ImageInputs(smaller, self._augmentation)


class RecomputedInputs(ImageInputs):
    """Batches of images for strategies with frozen layers, whose activations are computed anew in every step.

    `transforms` (1 + views, N, 8) are those of stored activations, so that the method is the same; view 0 is the clean
    one.
    """

    def __init__(self, images: NDArray[Any] | StoredImages, transforms: NDArray[Any]) -> None:
        self.arrays = (images,)
        self._transforms = transforms

    def training_index(self, rows: NDArray[Any], rng: np.random.Generator) -> Index:
        """Return a random view of each image, augmented or not."""
        return rows.astype("int32"), self._transforms[rng.integers(0, len(self._transforms), len(rows)), rows]

    def clean_index(self, rows: NDArray[Any]) -> Index:
        """Return view 0 of each image."""
        return rows.astype("int32"), self._transforms[0, rows]

    def resized(self, side: int) -> "ImageInputs":
        """Raise `ValueError`: the views have one size."""
        raise ValueError(f"expected images to resize to {side} px, received views of frozen activations")


def resize_bytes(images: NDArray[Any], side: int) -> NDArray[Any]:
    """Return uint8 images (N, side, side), by Lanczos with antialiasing (https://keras.io/api/ops/image/)."""
    smaller = np.empty((len(images), side, side), "uint8")
    for start in range(0, len(images), RESIZED_AT_ONCE):
        part = images[start : start + RESIZED_AT_ONCE, :, :, None].astype("float32")
        resized = keras.ops.image.resize(
            part, (side, side), interpolation="lanczos3", antialias=True, data_format="channels_last"
        )
        smaller[start : start + len(part)] = np.clip(np.rint(np.asarray(resized)[..., 0]), 0, 255)
    return smaller


class FrozenInputs:
    """Batches of activations in chunks (1 + views, n, …) float16; view 0 is without augmentation.

    The chunks are arrays in the shared memory of the object store, in the order of the rows, or files. Image i of all
    chunks is row `rows[i]`: files hold images in a random order, so that some of them are a sample of all.
    """

    def __init__(self, chunks: Sequence[NDArray[Any] | StoredChunk], rows: NDArray[Any] | None = None) -> None:
        self.arrays: list[Array] = [chunk.reshape(-1, *chunk.shape[2:]) for chunk in chunks]
        self.in_files = rows is not None
        self._lengths = np.array([chunk.shape[1] for chunk in chunks])
        self._starts = np.cumsum([0, *self._lengths])
        self._views = chunks[0].shape[0]
        self._places = np.arange(self._starts[-1]) if rows is None else np.argsort(rows)

    def training_index(self, rows: NDArray[Any], rng: np.random.Generator) -> Index:
        """Return a random view of each image, augmented or not."""
        return (self._positions(rows, rng.integers(0, self._views, len(rows))),)

    def clean_index(self, rows: NDArray[Any]) -> Index:
        """Return view 0 of each image."""
        return (self._positions(rows, np.zeros(len(rows), int)),)

    def files(self, rows: NDArray[Any]) -> NDArray[Any] | None:
        """Return the number of the file of each of `rows`, or `None` if the chunks are in memory."""
        return self._chunk(self._places[rows]) if self.in_files else None

    def resized(self, side: int) -> "FrozenInputs":
        """Raise `ValueError`: activations have no size of their own."""
        raise ValueError(f"expected images to resize to {side} px, received frozen activations")

    def _chunk(self, places: NDArray[Any]) -> NDArray[Any]:
        chunks: NDArray[Any] = np.searchsorted(self._starts, places, side="right") - 1
        return chunks

    def _positions(self, rows: NDArray[Any], views: NDArray[Any]) -> NDArray[Any]:
        places = self._places[rows]
        chunk = self._chunk(places)
        within = places - self._starts[chunk]
        positions: NDArray[Any] = self._views * self._starts[chunk] + views * self._lengths[chunk] + within
        return positions.astype("int32")


def shuffled(inputs: Inputs, rows: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """Return `rows` in random order; of files, so that each batch is drawn from about `FILES_AT_ONCE` of them.

    The files come in random order, and each row is delayed by a random part of `FILES_AT_ONCE` files: a shuffle with a
    sliding buffer. With fewer files than that, or in memory, it is a permutation of all rows.
    """
    files = inputs.files(rows)
    if files is None:
        return rng.permutation(rows)
    present, numbers = np.unique(files, return_inverse=True)
    if len(present) <= FILES_AT_ONCE:
        return rng.permutation(rows)
    turn = rng.permutation(len(present))[numbers]
    return rows[np.argsort(turn + FILES_AT_ONCE * rng.random(len(rows)), kind="stable")]


def in_file_order(inputs: Inputs, rows: NDArray[Any]) -> NDArray[Any]:
    """Return the order (len(rows),) int in which `rows` are read file by file; that of `rows` in memory."""
    files = inputs.files(rows)
    return np.arange(len(rows)) if files is None else np.argsort(files, kind="stable")


def gather(arrays: Sequence[Array], positions: NDArray[Any]) -> NDArray[Any]:
    """Return the rows at `positions` (B,) of `arrays`, as if these were one array."""
    if len(arrays) == 1:
        return arrays[0][positions]
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

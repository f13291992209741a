"""The images of a large study in a file of each node, made from the manifest's Parquet files row group by row group."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_platform.manifest.store import Manifest
from cxr_platform.storage.files import write_errors
from cxr_platform.storage.node_cache import NodeCache, cache_folder
from cxr_platform.training.array_files import FileArray, array_header

IMAGES_AT_ONCE = 1024
"""Images in memory while a file is written."""


@dataclass(frozen=True)
class ImageFile:
    """Images uint8 (N, S, S) in the file `name` of the node that reads them, which `make` writes where it is absent."""

    name: str
    shape: tuple[int, int, int]
    make: Callable[[Path], None]
    cache: NodeCache

    dtype = np.dtype("uint8")

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of all images."""
        return prod(self.shape)

    @property
    def identity(self) -> str:
        """What two objects share that are the same images."""
        return self.name

    def is_made(self) -> bool:
        """Return True if this node has the file."""
        return (cache_folder() / self.name).exists()

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        """Return the images of an index, a mask or a slice."""
        return FileArray(cache_folder() / self.name, self.shape, "uint8", self.cache, self.make)[rows]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:].astype(dtype or self.dtype, copy=False)

    def resized(self, side: int, resize: Callable[[NDArray[np.uint8], int], NDArray[np.uint8]]) -> "ImageFile":
        """Return the images as `resize(images, side)` makes them, in a file of their own."""
        name = f"{self.name.removesuffix('.npy')}-{side}px.npy"
        make = partial(_write_resized, self, side, resize)
        return ImageFile(name, (len(self), side, side), make, self.cache)


def manifest_images(manifest: Manifest, rows: NDArray[np.bool_], side: int, cache: NodeCache) -> ImageFile:
    """Return the images of `manifest` at the True places of `rows`, resized to `side` px, without reading them yet."""
    shape = (int(rows.sum()), side, side)
    make = partial(_write_images, manifest.absolute(), rows, side)
    return ImageFile(f"images-{manifest.content_hash[:32]}-{side}px.npy", shape, make, cache)


def _write_images(manifest: Manifest, rows: NDArray[np.bool_], side: int, target: Path) -> None:
    _write(target, (int(rows.sum()), side, side), manifest.pixel_batches(rows, side))


def _write_resized(
    source: ImageFile, side: int, resize: Callable[[NDArray[np.uint8], int], NDArray[np.uint8]], target: Path
) -> None:
    parts = (source[start : start + IMAGES_AT_ONCE] for start in range(0, len(source), IMAGES_AT_ONCE))
    _write(target, (len(source), side, side), (resize(part, side) for part in parts))


def _write(target: Path, shape: tuple[int, int, int], batches: Iterable[NDArray[np.uint8]]) -> None:
    """Write `batches`, together of `shape`, as a `.npy` file; raise `StorageError` if that cannot be written.

    Not into mapped memory, where a full disk would end the process.
    """
    with write_errors(target):
        stream = target.open("wb")
    with stream:
        with write_errors(target):
            stream.write(array_header(shape, "uint8"))
        for batch in batches:
            with write_errors(target):
                stream.write(batch.tobytes())
        with write_errors(target):
            stream.flush()

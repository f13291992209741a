"""Arrays in NumPy files, of which only the rows that are asked for are read.

They take the place of arrays in `Inputs.arrays`: batches are gathered from them by a thread ahead of the step. A file
is mapped for the length of one read, so that the memory of a process does not grow with what it has read; the operating
system keeps what it has room for.
"""

import io
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_platform.errors import StorageError
from cxr_platform.storage.files import write_atomically
from cxr_platform.storage.node_cache import NodeCache
from cxr_platform.storage.retry import with_retries

ATTEMPTS = 3


@dataclass(frozen=True)
class FileArray:
    """An array of `shape` and `dtype` in a `.npy` file; of an object store, in this node's copy of it."""

    file: Path
    shape: tuple[int, ...]
    dtype: str
    cache: NodeCache

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def identity(self) -> str:
        """What two objects share that are the same values in the same shape."""
        return f"{self.file} {self.shape}"

    def reshape(self, *shape: int) -> "FileArray":
        """Return the same values in another shape, which may have one −1."""
        known = prod(side for side in shape if side >= 0)
        return replace(self, shape=tuple(side if side >= 0 else prod(self.shape) // known for side in shape))

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        """Return the rows of an index or a slice along the first axis; raise `StorageError` for a damaged file."""
        for left in reversed(range(ATTEMPTS)):
            try:
                return self._read(rows)
            except (OSError, ValueError, EOFError) as error:
                if left and isinstance(error, FileNotFoundError):  # removed from the cache between the two calls
                    continue
                raise StorageError(
                    f"Expected a NumPy array of shape {self.shape} in {self.file}.",
                    received=error,
                    advice="Remove the file and run the same command again: it is made again.",
                ) from error
        raise AssertionError("the last attempt returns or raises")

    def _read(self, rows: Any) -> NDArray[Any]:
        return np.array(np.load(self.cache.local(self.file), mmap_mode="r").reshape(self.shape)[rows])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:].astype(dtype or self.dtype, copy=False)


def write_array(file: Path, array: NDArray[Any]) -> None:
    """Write `array` as a `.npy` file that appears complete or not at all; raise `StorageError` if it cannot."""
    content = io.BytesIO()
    np.save(content, array)
    with_retries(file, lambda: write_atomically(file, content.getvalue()))

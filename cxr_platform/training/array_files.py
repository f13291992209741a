"""Arrays in NumPy files, of which only the rows that are asked for are read.

They take the place of arrays in `Inputs.arrays`: batches are gathered from them by a thread ahead of the step. A file
is mapped for the length of one read, so that the memory of a process does not grow with what it has read; the operating
system keeps what it has room for.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import write_array_header_1_0
from numpy.typing import NDArray

from cxr_platform.errors import StorageError
from cxr_platform.storage.files import write_atomically
from cxr_platform.storage.node_cache import NodeCache
from cxr_platform.storage.retry import with_retries

ATTEMPTS = 3


@dataclass(frozen=True)
class FileArray:
    """An array of `shape` and `dtype` in a `.npy` file; of an object store, in this node's copy of it.

    With `make` it is a file of this node's cache, which that writes where it is absent.
    """

    file: Path
    shape: tuple[int, ...]
    dtype: str
    cache: NodeCache
    make: Callable[[Path], None] | None = None

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def file_bytes(self) -> int:
        """Bytes of the file as `write_array` writes it."""
        return len(array_header(self.shape, self.dtype)) + self.nbytes

    @property
    def identity(self) -> str:
        """What two objects share that are the same values in the same shape."""
        return f"{self.file} {self.shape}"

    def reshape(self, *shape: int) -> "FileArray":
        """Return the same values in another shape, which may have one −1."""
        known = prod(side for side in shape if side >= 0)
        return replace(self, shape=tuple(side if side >= 0 else prod(self.shape) // known for side in shape))

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        """Return the rows of an index or a slice along the first axis; raise `StorageError` for a damaged file.

        One that is damaged in this node's cache is copied or made again.
        """
        for left in reversed(range(ATTEMPTS)):
            file = self._local()
            try:
                return self._read(file, rows)
            except (OSError, ValueError, EOFError) as error:
                if left and self.cache.remove(file):  # if another process has not removed it between the two calls
                    continue
                copy = "" if file == self.file else f" in {file}, a new copy of it on this node"
                raise StorageError(
                    f"Expected a NumPy array of {self.dtype} of shape {self.shape} in {self.file}.",
                    received=f"{error}{copy}",
                    advice="Remove the file and run the same command again: it is made again.",
                ) from error
        raise AssertionError("the last attempt returns or raises")

    def _local(self) -> Path:
        if self.make is None:
            return self.cache.local(self.file, self.nbytes)
        return self.cache.made(self.file.name, self.make, self.nbytes)

    def _read(self, file: Path, rows: Any) -> NDArray[Any]:
        stored = np.load(file, mmap_mode="r")
        if stored.dtype != self.dtype:
            raise ValueError(f"an array of {stored.dtype}")
        return np.array(stored.reshape(self.shape)[rows])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:].astype(dtype or self.dtype, copy=False)


def array_header(shape: tuple[int, ...], dtype: str) -> bytes:
    """Return what a `.npy` file has before the values of an array in C order."""
    header = io.BytesIO()
    facts = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    write_array_header_1_0(header, facts)  # type: ignore[no-untyped-call]
    return header.getvalue()


def write_array(file: Path, array: NDArray[Any]) -> None:
    """Write `array` as a `.npy` file that appears complete or not at all; raise `StorageError` if it cannot."""
    content = io.BytesIO()
    np.save(content, array)
    with_retries(file, lambda: write_atomically(file, content.getvalue()))

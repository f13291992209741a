"""Files as pyarrow reads them, also while an object store answers with errors."""

import io
from pathlib import Path
from typing import Any

import pyarrow as pa

from cxr_platform.storage.files import read_errors
from cxr_platform.storage.paths import is_remote
from cxr_platform.storage.retry import with_retries


def arrow_source(file: Path) -> Any:
    """Return what pyarrow reads `file` from: its path, or the open file of an object store.

    In the latter, each reading is repeated while the store answers with errors (`retry`); then `StorageError`.
    """
    if not is_remote(file):
        return file
    with read_errors(file):
        return _StoredFile(file, with_retries(file, lambda: file.open("rb")))


def is_damage(error: Exception) -> bool:
    """Return True if an error of pyarrow means that the file is no sound Parquet, False if it cannot be read now.

    pyarrow reports some damage as an `OSError` without a number; file systems and stores give a number or a subclass.
    """
    return isinstance(error, pa.ArrowException) or (type(error) is OSError and error.errno is None)


class _StoredFile(io.RawIOBase):
    """A file of an object store, open to be read."""

    def __init__(self, file: Path, stream: Any) -> None:
        super().__init__()
        self._file, self._stream = file, stream

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return int(self._stream.tell())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._stream.seek(offset, whence))

    def read(self, size: int | None = -1) -> bytes:
        start = self.tell()

        def read() -> bytes:
            self._stream.seek(start)
            content: bytes = self._stream.read(-1 if size is None else size)
            return content

        with read_errors(self._file):
            return with_retries(self._file, read)

    def close(self) -> None:
        self._stream.close()
        super().close()

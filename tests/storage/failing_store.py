"""An object store in memory that answers requests with errors, as many as it is told."""

import errno
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.memory import MemoryFileSystem
from upath import UPath
from upath.registry import register_implementation

from cxr_platform.storage.paths import parse_path

SLOW_DOWN = OSError(errno.EBUSY, "503 Slow Down")


class Reader:
    """A file of the store that is read; each reading is an answer."""

    def __init__(self, content: bytes) -> None:
        self._stream = io.BytesIO(content)

    def read(self, size: int = -1) -> bytes:
        FailingFileSystem.answer()
        return self._stream.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        """Leave it open, as a file in memory."""


class FailingFileSystem(MemoryFileSystem):  # type: ignore[misc]
    """Raises an error in place of the next `errors` answers, and refuses to remove anything unless `may_remove`."""

    protocol = "failing"
    store: dict[str, Any] = {}  # noqa: RUF012 - as in fsspec
    pseudo_dirs = [""]  # noqa: RUF012
    errors = 0
    error: Exception
    may_remove = True

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return super()._strip_protocol(str(path).replace("failing://", "memory://"))

    def _open(self, path: Any, mode: str = "rb", **more: Any) -> Any:
        self.answer()
        opened = super()._open(path, mode, **more)
        return Reader(opened.getvalue()) if mode == "rb" else opened

    def cat_file(self, *words: Any, **more: Any) -> Any:
        self.answer()
        return super().cat_file(*words, **more)

    def put_file(self, *words: Any, **more: Any) -> Any:
        self.answer()
        return super().put_file(*words, **more)

    def pipe_file(self, *words: Any, **more: Any) -> Any:
        self.answer()
        return super().pipe_file(*words, **more)

    def find(self, *words: Any, **more: Any) -> Any:
        self.answer()
        return super().find(*words, **more)

    def cp_file(self, *words: Any, **more: Any) -> Any:
        self.answer()
        return super().cp_file(*words, **more)

    def rm(self, *words: Any, **more: Any) -> Any:
        self.answer()
        if not FailingFileSystem.may_remove:
            raise PermissionError("no permission to remove")
        return super().rm(*words, **more)

    @staticmethod
    def answer() -> None:
        if FailingFileSystem.errors:
            FailingFileSystem.errors -= 1
            raise FailingFileSystem.error


@contextmanager
def failing_store(name: str, errors: int = 0, error: Exception = SLOW_DOWN, may_remove: bool = True) -> Iterator[Path]:
    """A folder in a store whose next `errors` answers are `error`; some libraries raise an OSError, others do not."""
    fsspec.register_implementation("failing", FailingFileSystem, clobber=True)
    register_implementation("failing", UPath, clobber=True)
    folder = parse_path(f"failing://{name}")
    FailingFileSystem.errors, FailingFileSystem.error, FailingFileSystem.may_remove = errors, error, may_remove
    try:
        yield folder
    finally:
        FailingFileSystem.errors, FailingFileSystem.may_remove = 0, True


def answers_with_errors(count: int) -> None:
    """Let the next `count` answers of the store be errors."""
    FailingFileSystem.errors = count


def errors_left() -> int:
    return FailingFileSystem.errors

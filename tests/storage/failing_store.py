"""An object store in memory that answers requests with errors, as many as it is told."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.memory import MemoryFileSystem
from upath import UPath
from upath.registry import register_implementation

from cxr_platform.storage.paths import parse_path

SLOW_DOWN = OSError("503 Slow Down")


class FailingFileSystem(MemoryFileSystem):  # type: ignore[misc]
    """Raises an error in place of the next `errors` answers."""

    protocol = "failing"
    store: dict[str, Any] = {}  # noqa: RUF012 - as in fsspec
    pseudo_dirs = [""]  # noqa: RUF012
    errors = 0
    error: Exception

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return super()._strip_protocol(str(path).replace("failing://", "memory://"))

    def _open(self, *words: Any, **more: Any) -> Any:
        self._answer()
        return super()._open(*words, **more)

    def cat_file(self, *words: Any, **more: Any) -> Any:
        self._answer()
        return super().cat_file(*words, **more)

    def put_file(self, *words: Any, **more: Any) -> Any:
        self._answer()
        return super().put_file(*words, **more)

    def pipe_file(self, *words: Any, **more: Any) -> Any:
        self._answer()
        return super().pipe_file(*words, **more)

    def find(self, *words: Any, **more: Any) -> Any:
        self._answer()
        return super().find(*words, **more)

    def _answer(self) -> None:
        if FailingFileSystem.errors:
            FailingFileSystem.errors -= 1
            raise FailingFileSystem.error


@contextmanager
def failing_store(name: str, errors: int, error: Exception = SLOW_DOWN) -> Iterator[Path]:
    """A folder in a store whose next `errors` answers are `error`; some libraries raise an OSError, others do not."""
    fsspec.register_implementation("failing", FailingFileSystem, clobber=True)
    register_implementation("failing", UPath, clobber=True)
    folder = parse_path(f"failing://{name}")
    FailingFileSystem.errors, FailingFileSystem.error = errors, error
    try:
        yield folder
    finally:
        FailingFileSystem.errors = 0

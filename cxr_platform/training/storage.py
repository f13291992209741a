"""Writing so that what stands is whole: beside its place first, then renamed into it."""

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cxr_platform.errors import StorageError


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` to `path`, whole or not at all; `StorageError` when it cannot be written."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(content, indent=1), encoding="utf-8")
        flush(partial)
        partial.replace(path)


def put_in_place(partial: Path, final: Path) -> None:
    """Rename the folder `partial`, which is beside it, to `final`, after its files are on the disk."""
    for file in (*partial.iterdir(), partial):
        flush(file)
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    flush(final.parent)


@contextmanager
def storage_errors(place: Path) -> Iterator[None]:
    """Turn an `OSError` of the block into a `StorageError` that names `place`."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"Expected to be able to write {place}.",
            received=error.strerror or error,
            advice="Make room or correct the permissions, and run the same command again.",
        ) from error


def flush(path: Path) -> None:
    """Make a file, or the entries of a folder, outlast a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Local copies of folders and files of an object store, for code that needs real files (Parquet, HDF5, ONNX)."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from cxr_platform.storage.files import file_names, read_errors, upload_file, write_errors
from cxr_platform.storage.lock import LOCK_FILE, LockCheck
from cxr_platform.storage.paths import is_remote
from cxr_platform.storage.retry import with_retries

MARKERS = ("manifest.json", "study.json", "trial.json", "results.json", "bundle.json", "registry.json")
"""Files that mark their folder as complete: uploaded after all others."""

FileStamps = dict[str, tuple[int, int]]
"""Relative path → size in bytes and time of the last change in ns."""


def is_not_lock(file: str) -> bool:
    """Return True for every file but the lock of the folder, which belongs to its holder (`lock`)."""
    return file != LOCK_FILE


@contextmanager
def local_copy(
    folder: Path, wanted: Callable[[str], bool] = is_not_lock, check: LockCheck = lambda: None
) -> Iterator[Path]:
    """Yield `folder` itself if it is local, else a copy for the length of the block.

    What the block changes, makes or removes in the copy is applied to the store at its end, even after an error.
    `wanted` selects files by their relative path; the copy of an absent folder is empty. `check` is that of the lock
    (`lock.folder_lock`) that is held meanwhile: if the lock was lost, nothing is uploaded. Raises `StorageError` if the
    store cannot be reached.
    """
    if not is_remote(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="cxr-") as scratch:
        copy = Path(scratch) / folder.name
        with read_errors(folder):
            download(folder, copy, wanted)
        before = _state(copy)
        try:
            yield copy
        finally:
            check()
            with write_errors(folder):
                _upload_changes(copy, before, folder)


@contextmanager
def local_file(file: Path) -> Iterator[Path]:
    """Yield `file` itself if it is local, else a copy for the length of the block."""
    if not is_remote(file):
        yield file
        return
    with tempfile.TemporaryDirectory(prefix="cxr-") as scratch:
        store: Any = file
        with read_errors(file):
            with_retries(file, lambda: store.fs.get_file(store.path, f"{scratch}/{file.name}"))
        yield Path(scratch) / file.name


def download(folder: Path, copy: Path, wanted: Callable[[str], bool] = is_not_lock) -> None:
    """Copy the wanted files below `folder`, which is in a store, to the local folder `copy`.

    A file that another process removes between listing and copying is left out.
    """
    store: Any = folder
    for name in filter(wanted, file_names(folder)):
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with_retries(folder, partial(store.fs.get_file, (store / name).path, str(target)))
        except FileNotFoundError:
            target.unlink(missing_ok=True)


def _state(copy: Path) -> FileStamps:
    files = ((file, file.stat()) for file in copy.rglob("*") if file.is_file())
    return {file.relative_to(copy).as_posix(): (status.st_size, status.st_mtime_ns) for file, status in files}


def _upload_changes(copy: Path, before: FileStamps, folder: Path) -> None:
    after = _state(copy)
    changed = [name for name, state in after.items() if before.get(name) != state]
    for name in sorted(changed, key=lambda name: (name.rpartition("/")[2] in MARKERS, name)):
        upload_file(copy / name, folder / name)
    for name in before.keys() - after.keys():
        (folder / name).unlink(missing_ok=True)

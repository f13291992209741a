"""A folder of an object store as one of this machine, for what needs real files: Parquet, HDF5, pictures, ONNX."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cxr_platform.storage.files import file_names, put_file, reading_errors, storage_errors
from cxr_platform.storage.lock import FILE as LOCK
from cxr_platform.storage.lock import Check
from cxr_platform.storage.place import is_remote

DESCRIBING = ("manifest.json", "study.json", "trial.json", "results.json", "bundle.json", "registry.json")
"""Files by which others take their folder for whole: put back after all others."""

State = dict[str, tuple[int, int]]
"""Relative path → bytes and time of the last change, ns."""


def everything(file: str) -> bool:
    """Every file but the folder's lock, which is the business of those who hold it (`lock`)."""
    return file != LOCK


@contextmanager
def local_copy(folder: Path, wanted: Callable[[str], bool] = everything, check: Check = lambda: None) -> Iterator[Path]:
    """`folder` itself where it is one of this machine, else a copy for the length of the block.

    What the block changes, makes or removes in the copy is done in the store when it ends, also where it ends with an
    error: nothing that was done is lost. `wanted` chooses files by their relative path; a folder that there is not is
    an empty copy. `check` is that of the lock (`lock.holding`) under which this is done: once that is lost, nothing is
    put back. Raises `StorageError` where the store cannot be reached.
    """
    if not is_remote(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="cxr-") as scratch:
        copy = Path(scratch) / folder.name
        with reading_errors(folder):
            download(folder, copy, wanted)
        before = _state(copy)
        try:
            yield copy
        finally:
            check()
            with storage_errors(folder):
                _put_back(copy, before, folder)


@contextmanager
def local_file(file: Path) -> Iterator[Path]:
    """`file` itself where it is one of this machine, else a copy of it for the length of the block."""
    if not is_remote(file):
        yield file
        return
    with tempfile.TemporaryDirectory(prefix="cxr-") as scratch:
        store: Any = file
        with reading_errors(file):
            store.fs.get_file(store.path, f"{scratch}/{file.name}")
        yield Path(scratch) / file.name


def download(folder: Path, copy: Path, wanted: Callable[[str], bool] = everything) -> None:
    """The wanted files below `folder`, which is in a store, into `copy`, which is not.

    Others may work there meanwhile: a file that went since it was listed is none.
    """
    store: Any = folder
    for name in filter(wanted, file_names(folder)):
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            store.fs.get_file((store / name).path, str(target))
        except FileNotFoundError:
            target.unlink(missing_ok=True)


def _state(copy: Path) -> State:
    files = ((file, file.stat()) for file in copy.rglob("*") if file.is_file())
    return {file.relative_to(copy).as_posix(): (status.st_size, status.st_mtime_ns) for file, status in files}


def _put_back(copy: Path, before: State, folder: Path) -> None:
    after = _state(copy)
    changed = [name for name, state in after.items() if before.get(name) != state]
    for name in sorted(changed, key=lambda name: (name.rpartition("/")[2] in DESCRIBING, name)):
        put_file(copy / name, folder / name)
    for name in before.keys() - after.keys():
        (folder / name).unlink(missing_ok=True)

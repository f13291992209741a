"""Writing so that what stands is whole.

In a file system something is written beside its place and renamed into it. In an object store a file appears whole with
its last byte, and a folder is as good as its describing file: that goes there last and is taken away first.
"""

import json
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from cxr_platform.errors import CxrError, StorageError
from cxr_platform.storage.place import is_remote

OWN_ERRORS = (
    ("botocore.exceptions", "BotoCoreError"),
    ("aiohttp.client_exceptions", "ClientError"),
    ("gcsfs.retry", "HttpError"),
    ("azure.core.exceptions", "AzureError"),
)
"""Module and error of the libraries of stores, where these are no `OSError`: for one that does not answer."""


@contextmanager
def storage_errors(where: Path) -> Iterator[None]:
    """Turn an `OSError` of the block (disk full, not permitted, store not reached) into one that names `where`."""
    try:
        yield
    except store_errors() as error:
        raise cannot_write(where, getattr(error, "strerror", None) or error) from error


@contextmanager
def read_errors(where: Path) -> Iterator[None]:
    """Turn whatever goes wrong while `where` is read from a store into a `StorageError`, but for a file that is absent.

    The store's library has tried several times by then, and it says nothing of the file: the network may be down. What
    is raised for a file of this machine is its own, and not touched.
    """
    try:
        yield
    except Exception as error:
        if not is_remote(where) or isinstance(error, (FileNotFoundError, CxrError)):
            raise
        raise cannot_read(where, error) from error


def store_errors() -> tuple[type[Exception], ...]:
    """What file systems and stores raise: `OSError`, and the errors of their own of those libraries that are in use."""
    in_use = [(sys.modules[module], name) for module, name in OWN_ERRORS if module in sys.modules]
    return (OSError, *(getattr(module, name) for module, name in in_use))


@contextmanager
def reading_errors(where: Path) -> Iterator[None]:
    """As `storage_errors`, for a block that reads, here or in a store; an absent file is an error too."""
    try:
        yield
    except store_errors() as error:
        raise cannot_read(where, getattr(error, "strerror", None) or error) from error


def cannot_write(where: Path, received: object) -> StorageError:
    """The error for a place that cannot be written."""
    return StorageError(
        f"Expected to be able to write {where}.",
        received=received,
        advice="Make room, correct the permissions or choose another place, and run the same command again.",
    )


def cannot_read(where: Path, received: object) -> StorageError:
    """The error for a place that cannot be read."""
    return StorageError(
        f"Expected to be able to read {where}.",
        received=received,
        advice="See that it is there, may be read and can be reached, and run the same command again.",
    )


def make_folder(folder: Path) -> None:
    """So that something can be written into it; an object store needs none."""
    if not is_remote(folder):
        folder.mkdir(parents=True, exist_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the file at `path`: after a crash it is the old one or the new one. `StorageError` if it cannot be."""
    with storage_errors(path):
        if is_remote(path):
            path.write_bytes(content)
            return
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            with partial.open("xb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        flush(path.parent)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` to `path`, whole or not at all, and the folder too; `StorageError` when it cannot be written."""
    with storage_errors(path):
        make_folder(path.parent)
    write_atomically(path, json.dumps(content, indent=1).encode())


@contextmanager
def new_folder(final: Path, describing: str) -> Iterator[Path]:
    """An empty folder of this machine to fill; at the end of the block it takes the place of `final`, as a whole.

    `describing` is the file without which nobody takes `final` for finished. Raises `StorageError` where it cannot be
    written; whatever is raised, `final` is as it was, or lacks `describing`.
    """
    with storage_errors(final):
        if is_remote(final):
            with tempfile.TemporaryDirectory(prefix="cxr-") as scratch:
                yield Path(scratch)
                put_folder(Path(scratch), final, describing)
        else:
            partial = final.with_name(f".{final.name}.{uuid.uuid4().hex}")
            partial.mkdir(parents=True)
            try:
                yield partial
                put_in_place(partial, final)
            finally:
                shutil.rmtree(partial, ignore_errors=True)


def put_in_place(partial: Path, final: Path) -> None:
    """Rename the folder `partial`, which is beside it, to `final`, after its files are on the disk."""
    for file in (*partial.iterdir(), partial):
        flush(file)
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    flush(final.parent)


def put_file(file: Path, target: Path) -> None:
    """The local `file` as `target` in an object store, a piece at a time."""
    store: Any = target
    store.fs.put_file(str(file), store.path)


def readable(file: Path) -> Any:
    """What pyarrow reads `file` from: its path, or the open file of an object store."""
    return file.open("rb") if is_remote(file) else file


def file_names(folder: Path) -> list[str]:
    """Every file below `folder`, which is in a store, relative; none where there is nothing."""
    store: Any = folder
    base = store.path.rstrip("/")
    return [found[len(base) + 1 :] for found in store.fs.find(base)]


def children(folder: Path) -> list[Path]:
    """What lies directly in `folder`; nothing where there is none, as a store has no empty folders."""
    return list(folder.iterdir()) if folder.is_dir() else []


def remove(where: Path) -> None:
    """The file or folder, if it is there."""
    if is_remote(where):
        store: Any = where
        if store.fs.exists(store.path):
            store.fs.rm(store.path, recursive=True)
    elif where.is_dir():
        shutil.rmtree(where, ignore_errors=True)
    else:
        where.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Make a file, or the entries of a folder, outlast a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def put_folder(folder: Path, final: Path, describing: str) -> None:
    """The local `folder` as `final` in an object store, `describing` last; what stood there before goes."""
    names = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    _fill(final, describing, names, lambda name: put_file(folder / name, final / name))


def copy_folder(folder: Path, final: Path, describing: str) -> None:
    """The same for a `folder` of the same store, which copies the files by itself."""
    store: Any = final
    base = f"{cast(Any, folder).path.rstrip('/')}/"
    _fill(final, describing, set(file_names(folder)), lambda name: store.fs.cp_file(base + name, (store / name).path))


def _fill(final: Path, describing: str, names: Collection[str], put: Callable[[str], None]) -> None:
    remove(final / describing)
    for name in sorted(set(file_names(final)).difference(names)):
        (final / name).unlink()
    for name in sorted(names, key=lambda name: (name == describing, name)):
        put(name)

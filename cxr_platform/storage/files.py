"""Atomic replacement of files and folders, in file systems and object stores.

In a file system, content is written beside its destination and renamed. In an object store, a file appears with its
last byte; a folder counts as complete if its *marker* exists: the file that readers open first, such as
`manifest.json`. It is uploaded last, and removed first when the folder is replaced.

Listing, uploading and removing are repeated while a store answers with errors (`retry`).
"""

import json
import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

from cxr_platform.errors import CxrError, StorageError
from cxr_platform.storage.paths import is_remote
from cxr_platform.storage.retry import store_errors, with_retries

log = logging.getLogger(__name__)


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn an error of file system or store within the block, such as a full disk, into a `StorageError` for `path`."""
    try:
        yield
    except store_errors() as error:
        raise cannot_write(path, getattr(error, "strerror", None) or error) from error


@contextmanager
def read_errors(path: Path, *, remote_only: bool = False) -> Iterator[None]:
    """Turn an error within the block, which reads `path`, into a `StorageError`.

    With `remote_only`, errors of a local file and `FileNotFoundError` pass unchanged. Any exception of an object store
    counts: its library has retried by then, and the error does not concern the file itself.
    """
    try:
        yield
    except Exception as error:
        remote = is_remote(path)
        if isinstance(error, CxrError) or not (remote or isinstance(error, OSError)):
            raise
        if remote_only and (not remote or isinstance(error, FileNotFoundError)):
            raise
        raise cannot_read(path, getattr(error, "strerror", None) or error) from error


def cannot_write(path: Path, received: object) -> StorageError:
    """Return the error for a path that cannot be written."""
    return StorageError(
        f"Expected to be able to write {path}.",
        received=received,
        advice="Make room, correct the permissions or choose another place, and run the same command again.",
    )


def cannot_read(path: Path, received: object) -> StorageError:
    """Return the error for a path that cannot be read."""
    return StorageError(
        f"Expected to be able to read {path}.",
        received=received,
        advice="Check that it exists, is readable and can be reached, and run the same command again.",
    )


def write_atomically(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Replace the file at `path`: after a crash it is the old one or the new one. Raises `StorageError`.

    A local file has the permissions `mode` less the umask.
    """
    with write_errors(path):
        if is_remote(path):
            path.write_bytes(content)
            return
        partial = _beside(path)
        try:
            with open(partial, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        flush(path.parent)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` to `path` atomically, after making its folder. Raises `StorageError`."""
    with write_errors(path):
        make_folder(path.parent)
    write_atomically(path, json.dumps(content, indent=1).encode())


@contextmanager
def new_folder(final: Path, marker: str) -> Iterator[Path]:
    """Yield an empty local folder to fill; at the end of the block it replaces `final`.

    Raises `StorageError` if it cannot be written. After any exception `final` is as before, or, in an object store,
    has no `marker` (see the module).
    """
    with write_errors(final):
        if is_remote(final):
            with tempfile.TemporaryDirectory(prefix="cxr-") as scratch:
                yield Path(scratch)
                upload_folder(Path(scratch), final, marker)
        else:
            partial = _beside(final)
            partial.mkdir(parents=True)
            try:
                yield partial
                replace_folder(partial, final)
            finally:
                shutil.rmtree(partial, ignore_errors=True)


def replace_folder(folder: Path, final: Path, previous: Path | None = None) -> None:
    """Rename the local `folder` to `final`. A folder that is there is removed, after its renaming to `previous`.

    A crash between the two renames leaves only `previous`: name it where it is to be restored. `StorageError` if the
    renaming fails; `final` is then as before.
    """
    previous = previous or _beside(final)
    with write_errors(final):
        replaced = final.exists()
        if replaced:
            final.rename(previous)
        try:
            move_folder(folder, final)
        except BaseException:
            if replaced:
                previous.rename(final)
            raise
        shutil.rmtree(previous, ignore_errors=True)


def move_folder(folder: Path, final: Path) -> None:
    """Rename the local `folder` to `final`, which does not exist, after its files are on the disk.

    Raises `StorageError`.
    """
    with write_errors(final):
        for path in (*folder.rglob("*"), folder):
            flush(path)
        folder.rename(final)
        flush(final.parent)


def upload_folder(folder: Path, final: Path, marker: str) -> None:
    """Replace `final` in an object store by the local `folder`, `marker` last."""
    names = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    _fill(final, marker, names, lambda name: upload_file(folder / name, final / name))


def copy_folder(folder: Path, final: Path, marker: str) -> None:
    """Replace `final` by `folder` of the same object store, which copies the files itself, `marker` last."""
    store: Any = final
    base = f"{cast(Any, folder).path.rstrip('/')}/"

    def copy(name: str) -> None:
        with_retries(final, lambda: store.fs.cp_file(base + name, (store / name).path))

    _fill(final, marker, set(file_names(folder)), copy)


def upload_file(file: Path, target: Path) -> None:
    """Upload the local `file` to `target` in an object store, in parts."""
    store: Any = target
    with_retries(target, lambda: store.fs.put_file(str(file), store.path))


def remove_leftovers(path: Path) -> None:
    """Remove what interrupted calls of `write_atomically` and `new_folder` left beside the local `path`.

    Only for a process that knows that no other one is writing `path`.
    """
    for leftover in path.parent.glob(f".{path.name}.*"):
        remove(leftover)


def make_folder(folder: Path) -> None:
    """Make a local folder and its parents; an object store needs none."""
    if not is_remote(folder):
        folder.mkdir(parents=True, exist_ok=True)


def file_names(folder: Path) -> list[str]:
    """Return the relative path of every file below `folder` in an object store; empty if there is no such folder."""
    return list(file_sizes(folder))


def file_sizes(folder: Path) -> dict[str, int]:
    """Return the relative path and the bytes of every file below `folder` in an object store, from one listing."""
    store: Any = folder
    base = store.path.rstrip("/")
    found = with_retries(folder, lambda: store.fs.find(base, detail=True))
    return {name[len(base) + 1 :]: facts["size"] for name, facts in found.items()}


def matching_files(folder: Path, pattern: str) -> list[Path]:
    """Return the files in `folder` whose names match `pattern`, by name; empty if there is no such folder.

    Of a store, `glob` would take an answer with an error for an empty folder.
    """
    if not is_remote(folder):
        return sorted(folder.glob(pattern))
    with read_errors(folder):
        return [folder / name for name in sorted(file_names(folder)) if fnmatchcase(name, pattern)]


def children(folder: Path) -> list[Path]:
    """Return the entries of `folder`; empty if there is no such folder, as a store has no empty ones."""
    return list(folder.iterdir()) if folder.is_dir() else []


def remove(path: Path) -> None:
    """Remove the file or folder, if it exists."""
    if is_remote(path):
        with_retries(path, lambda: _remove_stored(path))
    elif path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove_unneeded(path: Path) -> None:
    """Remove what no work depends on any more, or log why that is not possible."""
    try:
        remove(path)
    except store_errors() as error:
        log.warning("%s is not needed any more and could not be removed: %s", path, error)


def _remove_stored(path: Any) -> None:
    if path.fs.exists(path.path):
        path.fs.rm(path.path, recursive=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")


def flush(path: Path) -> None:
    """Write a file, or the entries of a folder, through to the disk, so that it survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fill(final: Path, marker: str, names: Collection[str], put: Callable[[str], None]) -> None:
    remove(final / marker)
    for name in sorted(set(file_names(final)).difference(names)):
        remove(final / name)
    for name in sorted(names, key=lambda name: (name == marker, name)):
        put(name)

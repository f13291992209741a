"""A bounded folder on each node for files that can be fetched or made again.

CXR_CACHE, or a folder for this user below the folder of temporary files, holds copies of files of an object store and
files that were made of others. Before another one would exceed their limit, those that were not used for longest are
removed; a process that still reads one keeps it (an unlinked file lives until it is closed).
"""

import errno
import os
import shutil
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from cxr_platform.domain.study import CacheUse
from cxr_platform.errors import ConfigError, StorageError
from cxr_platform.storage.files import cannot_write, flush, read_errors, remove_leftovers, write_errors
from cxr_platform.storage.lock import file_lock
from cxr_platform.storage.paths import is_remote
from cxr_platform.storage.retry import is_full_disk, with_retries

FOLDER, LIMIT = "CXR_CACHE", "CXR_CACHE_GIB"
LOCKS = "locks"
FREE_SHARE = 0.5
"""Share of the space that is free, or taken by these files, that they may take where no limit is stated."""

MAKING_SECONDS = 3600.0
"""Longest time that a process waits for another one that makes the same file, and between two writes to it."""


def cache_folder() -> Path:
    """Return the folder of this node's files; it may not exist yet."""
    named = os.environ.get(FOLDER)
    return Path(named) if named else Path(tempfile.gettempdir()) / f"cxr-cache-{os.getuid()}"


def free_bytes(folder: Path) -> int:
    """Return the free space of the disk on which `folder` is, or will be."""
    return shutil.disk_usage(_present(folder)).free


def disk_of(folder: Path) -> int:
    """Return the number of the disk on which `folder` is, or will be."""
    return _present(folder).stat().st_dev


def _present(folder: Path) -> Path:
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def cache_use() -> CacheUse:
    """Return what this process has used of its node's cache so far."""
    with _counting:
        return CacheUse(**_counts)


@dataclass(frozen=True)
class NodeCache:
    """Files of at most `gib` GiB, by default what CXR_CACHE_GIB of the node says, else half of what would be free
    without them. The same object serves every node.
    """

    gib: float | None = None

    @property
    def limit(self) -> float:
        """Bytes that the files of this node may take."""
        return self._limit(_files())

    def local(self, file: Path, size: int) -> Path:
        """Return `file` of `size` bytes itself if it is in a file system, else this node's copy of it.

        Raises `StorageError` if the store or this node's disk cannot be used.
        """
        if not is_remote(file):
            return file
        store: Any = file

        def fetch(target: Path) -> None:
            with read_errors(file):
                with_retries(file, lambda: store.fs.get_file(store.path, str(target)))

        return self.made(f"{sha256(str(file).encode()).hexdigest()[:32]}{file.suffix}", fetch, size)

    def made(self, name: str, make: Callable[[Path], None], size: int) -> Path:
        """Return the file `name`, which `make` writes if this node does not have it; other processes wait for it.

        Others are removed first where `size`, its bytes, would exceed the limit, or the disk is full. Raises
        `StorageError` if the folder cannot be used.
        """
        target = cache_folder() / name
        with write_errors(target):
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_own(target.parent)
            (target.parent / LOCKS).mkdir(exist_ok=True)
            if _use(target):
                return target
        with file_lock(target.parent / LOCKS / name, timeout=MAKING_SECONDS):
            remove_leftovers(target)  # of a process that was killed while it made the file
            if not _use(target):
                files = _files()
                _remove_oldest(files, _size(files) + size - self._limit(files))
                try:
                    _make(target, make)
                except StorageError as error:
                    if not is_full_disk(error):
                        raise
                    _remove_oldest(_files(), size)  # other files than these have filled the disk
                    _make(target, make)
        return target

    def remove(self, file: Path) -> bool:
        """Remove a damaged `file`, so that it is made again; return False if it is not one of this cache."""
        with write_errors(file):
            if file.parent == cache_folder():
                file.unlink(missing_ok=True)
        return file.parent == cache_folder()

    def _limit(self, files: Mapping[Path, os.stat_result]) -> float:
        """Return `limit` beside `files`, which are there."""
        if self.gib is not None:
            return self.gib * 2**30
        if stated := os.environ.get(LIMIT):
            return _positive(stated) * 2**30
        return FREE_SHARE * (free_bytes(cache_folder()) + _size(files))


def _positive(stated: str) -> float:
    with suppress(ValueError):
        if (gib := float(stated)) > 0:  # not so for nan
            return gib
    raise ConfigError(f"Expected a number of GiB above 0 in {LIMIT}.", received=repr(stated))


def _use(file: Path) -> bool:
    """Return True, and count a hit, if `file` is there; it was used now."""
    try:
        os.utime(file)
    except FileNotFoundError:
        return False
    except PermissionError:  # another user's, who shares the folder
        if not os.access(file, os.R_OK):
            raise
    _count(hits=1)
    return True


def _make(target: Path, make: Callable[[Path], None]) -> None:
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        make(partial)
        with write_errors(target):
            flush(partial)
            _count(misses=1, fetched_bytes=partial.stat().st_size)
            partial.replace(target)
    except Exception as error:
        if is_full_disk(error):
            raise cannot_write(target, os.strerror(errno.ENOSPC)) from error
        raise
    finally:
        partial.unlink(missing_ok=True)


def _remove_oldest(files: Mapping[Path, os.stat_result], excess: float) -> None:
    """Remove `files`, first those that were not used for longest, until they took `excess` bytes."""
    for file, status in sorted(files.items(), key=lambda each: each[1].st_mtime):
        is_written = file.name.startswith(".") and time.time() - status.st_mtime < MAKING_SECONDS
        if excess <= 0 or is_written:
            continue
        try:
            file.unlink(missing_ok=True)
        except PermissionError:  # another user's, who shares the folder
            continue
        _count(evictions=1)
        excess -= status.st_size


_counts, _counting = Counter[str](), threading.Lock()  # batches are gathered by threads


def _count(**added: int) -> None:
    with _counting:
        _counts.update(added)


def _check_own(folder: Path) -> None:
    """Raise `StorageError` if another user made the default folder, whose name anybody can guess."""
    if FOLDER not in os.environ and folder.stat().st_uid != os.getuid():
        raise StorageError(
            f"Expected {folder} to be of user {os.getuid()}.",
            received=f"a folder of user {folder.stat().st_uid}",
            advice=f"Name a folder of your own with {FOLDER}.",
        )


def _files() -> dict[Path, os.stat_result]:
    """Return the files of this node with their sizes and times; those that are not complete begin with a dot."""
    found: dict[Path, os.stat_result] = {}
    with read_errors(cache_folder()), suppress(FileNotFoundError):  # no folder yet
        for file in cache_folder().iterdir():
            with suppress(FileNotFoundError):  # another process removed it meanwhile
                if file.is_file():
                    found[file] = file.stat()
    return found


def _size(files: Mapping[Path, os.stat_result]) -> int:
    return sum(status.st_size for status in files.values())

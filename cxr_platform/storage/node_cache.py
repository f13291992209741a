"""A bounded folder on each node for files that can be fetched or made again.

CXR_CACHE, or a folder for this user below the folder of temporary files, holds copies of files of an object store and
files that were made of others. When they exceed their limit, those that were not used for longest are removed; a
process that still reads one keeps it (an unlinked file lives until it is closed).
"""

import os
import shutil
import tempfile
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from cxr_platform.domain.study import CacheUse
from cxr_platform.errors import ConfigError, StorageError
from cxr_platform.storage.files import read_errors, remove_leftovers, write_errors
from cxr_platform.storage.lock import file_lock
from cxr_platform.storage.paths import is_remote
from cxr_platform.storage.retry import with_retries

FOLDER, LIMIT = "CXR_CACHE", "CXR_CACHE_GIB"
LOCKS = "locks"
FREE_SHARE = 0.5
"""Share of the disk's free space that files may take where no limit is stated."""

MAKING_SECONDS = 3600.0
"""Longest time that a process waits for another one that makes the same file."""


def cache_folder() -> Path:
    """Return the folder of this node's files; it may not exist yet."""
    named = os.environ.get(FOLDER)
    return Path(named) if named else Path(tempfile.gettempdir()) / f"cxr-cache-{os.getuid()}"


def free_bytes(folder: Path) -> int:
    """Return the free space of the disk on which `folder` is, or will be."""
    return shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if path.exists())).free


def cache_use() -> CacheUse:
    """Return what this process has used of its node's cache so far."""
    with _counting:
        return CacheUse(**_counts)


@dataclass(frozen=True)
class NodeCache:
    """Files of at most `gib` GiB, by default what CXR_CACHE_GIB of the node says, else half of the disk's free space.

    The same object serves every node.
    """

    gib: float | None = None

    @property
    def limit(self) -> float:
        """Bytes that the files of this node may take."""
        if self.gib is not None:
            return self.gib * 2**30
        if stated := os.environ.get(LIMIT):
            try:
                return float(stated) * 2**30
            except ValueError as error:
                raise ConfigError(f"Expected a number of GiB in {LIMIT}.", received=repr(stated)) from error
        return FREE_SHARE * free_bytes(cache_folder()) + sum(status.st_size for status in _files().values())

    def local(self, file: Path) -> Path:
        """Return `file` itself if it is in a file system, else this node's copy of it.

        Raises `StorageError` if the store or this node's disk cannot be used.
        """
        if not is_remote(file):
            return file
        store: Any = file

        def fetch(target: Path) -> None:
            with read_errors(file):
                with_retries(file, lambda: store.fs.get_file(store.path, str(target)))

        return self.made(f"{sha256(str(file).encode()).hexdigest()[:32]}{file.suffix}", fetch)

    def made(self, name: str, make: Callable[[Path], None]) -> Path:
        """Return the file `name`, which `make` writes if this node does not have it; other processes wait for it."""
        target = cache_folder() / name
        with suppress(FileNotFoundError):
            os.utime(target)  # the file was used now
            _count(hits=1)
            return target
        with write_errors(target):
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_own(target.parent)
            (target.parent / LOCKS).mkdir(exist_ok=True)
        with file_lock(target.parent / LOCKS / name, timeout=MAKING_SECONDS):
            remove_leftovers(target)  # of a process that was killed while it made the file
            if target.exists():
                _count(hits=1)
            else:
                partial = target.with_name(f".{name}.{uuid.uuid4().hex}")
                try:
                    make(partial)
                    with write_errors(target):
                        _count(misses=1, fetched_bytes=partial.stat().st_size)
                        partial.replace(target)
                finally:
                    partial.unlink(missing_ok=True)
        self._remove_oldest(but=target)
        return target

    def _remove_oldest(self, but: Path) -> None:
        files = sorted(_files().items(), key=lambda each: each[1].st_mtime)
        excess = sum(status.st_size for _, status in files) - self.limit
        for file, status in files:
            if excess > 0 and file != but:
                with suppress(FileNotFoundError):  # another process removed it meanwhile
                    file.unlink()
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
    """Return the complete files of this node with their sizes and times."""
    found: dict[Path, os.stat_result] = {}
    with suppress(FileNotFoundError):  # no folder yet
        for file in cache_folder().iterdir():
            with suppress(FileNotFoundError):  # another process removed it meanwhile
                if file.is_file() and not file.name.startswith("."):
                    found[file] = file.stat()
    return found

"""The folders of a manifest: the finished one, the one being built, the cache; and the exchange of one for the other.

DEST                 the manifest; only ever a complete and validated one
DEST.building        being built; a leftover of an interrupted build is removed by the next one
DEST.previous        the old manifest for the instant between two renames; after a crash just then it is put back
DEST.failed          a manifest that did not pass its expectations, for a person to look at
DEST.cache           decoded images (`manifest.cache`)

In an object store there is no DEST.previous. A manifest is built in a folder of this machine and uploaded to
DEST.building; only when all of it is in the store does the store itself copy it to DEST, manifest.json last.
"""

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cxr_platform.errors import StorageError
from cxr_platform.storage.files import copy_folder, file_names, remove, upload_folder, write_errors
from cxr_platform.storage.lock import LOCK_FILE, Check, folder_lock
from cxr_platform.storage.paths import is_remote

INFO_FILE = "manifest.json"
PARTS = {INFO_FILE, "images", "excluded.parquet", "validation", "contact_sheets"}
"""What a build makes; an interrupted one has made some of it."""


@dataclass(frozen=True)
class Place:
    """Where a manifest is built and where it ends."""

    destination: Path

    @property
    def building(self) -> Path:
        """The folder that is being filled."""
        return self._sibling("building")

    @property
    def previous(self) -> Path:
        """The old manifest during the exchange."""
        return self._sibling("previous")

    @property
    def failed(self) -> Path:
        """The last manifest that was not valid."""
        return self._sibling("failed")

    @property
    def cache(self) -> Path:
        """The decoded images."""
        return self._sibling("cache")

    @contextmanager
    def build(self) -> Iterator[Path]:
        """The empty folder to build in, under a lock; afterwards `publish` or `reject`, else it is removed.

        Raises `StorageError` where it cannot be had; what is raised within is not touched.
        """
        with ExitStack() as held:
            with write_errors(self.destination):
                _refuse_foreign(self.destination, lambda names: not names or INFO_FILE in names)
                _refuse_foreign(self.cache, lambda names: LOCK_FILE in names or all(map(is_cache_key, names)))
                held.enter_context(folder_lock(self.cache))
                for folder in (self.building, self.previous, self.failed):
                    _refuse_foreign(folder, lambda names: INFO_FILE in names or names <= PARTS)
                self._recover()
                self.building.mkdir()
            try:
                yield self.building
            finally:
                shutil.rmtree(self.building, ignore_errors=True)

    def publish(self) -> None:
        """Exchange the built manifest for the previous one."""
        with write_errors(self.destination):
            if self.destination.exists():
                self.destination.rename(self.previous)
            self.building.rename(self.destination)
            _remove(self.previous)

    def reject(self) -> None:
        """Keep the built manifest for inspection; the previous one stays."""
        with write_errors(self.failed):
            _remove(self.failed)
            self.building.rename(self.failed)

    def readable(self) -> Path:
        """The folder to read, also in the instant (or after a crash) between the renames of `publish`."""
        return self.previous if not self.destination.exists() and self.previous.exists() else self.destination

    def _recover(self) -> None:
        if self.previous.exists() and not self.destination.exists():
            self.previous.rename(self.destination)
        _remove(self.previous)
        _remove(self.building)

    def _sibling(self, kind: str) -> Path:
        return self.destination.with_name(f"{self.destination.name}.{kind}")


class StorePlace(Place):
    """A `Place` in an object store.

    While the store copies a new manifest to the place of an old one there is none to be opened, and none is left
    where just that is interrupted; the next build makes it, of images that are decoded. An upload that fails leaves the
    old one.
    """

    _scratch: Path
    _check: Check

    @property
    def building(self) -> Path:
        """The folder of this machine that is being filled."""
        return self._scratch

    @property
    def _uploaded(self) -> Path:
        """The built manifest in the store; what a failed upload left of it is overwritten by the next."""
        return self._sibling("building")

    @contextmanager
    def build(self) -> Iterator[Path]:
        """As `Place.build`; the lock is a lease (`storage.lock`)."""
        for folder in (self.destination, self._uploaded, self.failed):
            with write_errors(folder):
                names = {name.partition("/")[0] for name in file_names(folder)}
            if not names <= PARTS:
                raise _foreign(folder, "a folder with other files")
        with folder_lock(self.cache) as check, tempfile.TemporaryDirectory(prefix="cxr-manifest-") as scratch:
            object.__setattr__(self, "_scratch", Path(scratch))
            object.__setattr__(self, "_check", check)
            yield self._scratch

    def publish(self) -> None:
        """Exchange the built manifest for the previous one, after all of it is in the store.

        Raises `StorageError` where another build may have the place by now: two would mix their files.
        """
        with write_errors(self.destination):
            self._check()
            upload_folder(self.building, self._uploaded, INFO_FILE)
            self._check()
            copy_folder(self._uploaded, self.destination, INFO_FILE)
            remove(self._uploaded)

    def reject(self) -> None:
        """Keep the built manifest for inspection; the previous one stays."""
        with write_errors(self.failed):
            upload_folder(self.building, self.failed, INFO_FILE)

    def readable(self) -> Path:
        """The folder to read."""
        return self.destination


def place_of(destination: Path) -> Place:
    """Where a manifest is built and where it ends; `destination` may be in an object store."""
    return StorePlace(destination) if is_remote(destination) else Place(destination)


def is_cache_key(name: str) -> bool:
    """Whether a folder of the cache can be called so."""
    return re.fullmatch("[0-9a-f]{16}", name) is not None


def _refuse_foreign(folder: Path, is_ours: Callable[[set[str]], bool]) -> None:
    """Nothing is replaced or removed that a build has not made; `is_ours` tells it by the names in a folder."""
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir() or not is_ours({entry.name for entry in folder.iterdir()}):
        raise _foreign(folder, "a folder with other files" if folder.is_dir() else "a file")


def _foreign(folder: Path, received: str) -> StorageError:
    return StorageError(
        f"Expected {folder} to be of an earlier build, or nothing yet.",
        received=received,
        advice="It would be replaced: choose another place for the manifest.",
    )


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)

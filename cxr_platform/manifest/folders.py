"""The folders of a manifest while it is built, and the replacement of an older one.

DEST                 the manifest, complete and validated
DEST.building        the manifest being built; removed by the next build if it was interrupted
DEST.previous        the old manifest between two renames; restored by the next build after a crash in between
DEST.failed          what the last build left that failed: a manifest that failed its expectations, or the excluded
                     files, contact sheets and counts (counts.json) of one whose images give no folds
DEST.look            the same for images that were only looked at
DEST.cache           decoded images (`manifest.cache`)

In an object store there is no DEST.previous. A manifest is built in a local folder and uploaded to DEST.building; when
all of it is in the store, the store copies it to DEST, manifest.json last.
"""

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cxr_platform.errors import StorageError
from cxr_platform.storage.files import (
    copy_folder,
    file_names,
    move_folder,
    remove,
    remove_unneeded,
    replace_folder,
    upload_folder,
    write_errors,
)
from cxr_platform.storage.lock import LOCK_FILE, LockCheck, folder_lock
from cxr_platform.storage.paths import is_remote

INFO_FILE = "manifest.json"
COUNTS_FILE = "counts.json"
CROISSANT_FILE = "croissant.json"
CONTENTS = {INFO_FILE, COUNTS_FILE, CROISSANT_FILE, "images", "excluded.parquet", "validation", "contact_sheets"}
"""What a build writes; an interrupted one has written some of it."""


@dataclass(frozen=True)
class ManifestFolders:
    """The folders of the manifest at `destination`, in a file system."""

    destination: Path

    @property
    def building(self) -> Path:
        """The local folder to fill."""
        return self._sibling("building")

    @property
    def previous(self) -> Path:
        """The old manifest during its replacement."""
        return self._sibling("previous")

    @property
    def failed(self) -> Path:
        """What the last build left that failed: an invalid manifest, or a look at images that give no folds."""
        return self._sibling("failed")

    @property
    def looked_at(self) -> Path:
        """What was left of the last look at the images."""
        return self._sibling("look")

    @property
    def cache(self) -> Path:
        """The decoded images."""
        return self._sibling("cache")

    @contextmanager
    def build(self) -> Iterator[Path]:
        """Lock the manifest and yield the empty `building`, to be followed by `publish`, `reject` or `keep_look`.

        Raises `StorageError` if a folder holds other files, or cannot be written or locked.
        """
        with ExitStack() as held:
            with write_errors(self.destination):
                _check_is_ours(self.destination, lambda names: not names or INFO_FILE in names)
                _check_is_ours(self.cache, lambda names: LOCK_FILE in names or all(map(is_cache_key, names)))
                held.enter_context(folder_lock(self.cache, *self._lock_texts))
                for folder in (self.building, self.previous, self.failed):
                    _check_is_ours(folder, lambda names: INFO_FILE in names or names <= CONTENTS)
                _check_is_ours(self.looked_at, lambda names: names <= CONTENTS)
                if self.previous.exists() and not self.destination.exists():
                    move_folder(self.previous, self.destination)
                remove(self.previous)
                remove(self.building)
                self.building.mkdir()
            try:
                yield self.building
            finally:
                shutil.rmtree(self.building, ignore_errors=True)

    def publish(self) -> None:
        """Replace the previous manifest by the built one."""
        replace_folder(self.building, self.destination, self.previous)

    def reject(self) -> None:
        """Move what was built to `failed`, a manifest or a look; a manifest in `destination` stays."""
        replace_folder(self.building, self.failed)

    def keep_look(self) -> None:
        """Move what was built to `looked_at`; a manifest in `destination` stays."""
        replace_folder(self.building, self.looked_at)

    def readable(self) -> Path:
        """Return the folder to read: `previous` between the renames of `publish` or after a crash there."""
        return self.previous if not self.destination.exists() and self.previous.exists() else self.destination

    @property
    def _lock_texts(self) -> tuple[str, str]:
        return f"the manifest {self.destination}", "Wait for it to end, or give another --out."

    def _sibling(self, kind: str) -> Path:
        return self.destination.with_name(f"{self.destination.name}.{kind}")


class StoredManifestFolders(ManifestFolders):
    """The folders of a manifest in an object store.

    While the store copies a new manifest over an old one, neither can be opened; if that is interrupted, the next build
    writes it again from decoded images. A failed upload leaves the old one.
    """

    _scratch: Path
    _check: LockCheck

    @property
    def building(self) -> Path:
        """The local folder to fill."""
        return self._scratch

    @property
    def _uploaded(self) -> Path:
        """The built manifest in the store. The rest of a failed upload is overwritten by the next one."""
        return self._sibling("building")

    @contextmanager
    def build(self) -> Iterator[Path]:
        """As `ManifestFolders.build`; the lock is a lease (`storage.lock`)."""
        for folder in (self.destination, self._uploaded, self.failed, self.looked_at):
            with write_errors(folder):
                names = {name.partition("/")[0] for name in file_names(folder)}
            if not names <= CONTENTS:
                raise _foreign(folder, "a folder with other files")
        with (
            folder_lock(self.cache, *self._lock_texts) as check,
            tempfile.TemporaryDirectory(prefix="cxr-manifest-") as scratch,
        ):
            object.__setattr__(self, "_scratch", Path(scratch))
            object.__setattr__(self, "_check", check)
            yield self._scratch

    def publish(self) -> None:
        """Upload the built manifest, then replace the previous one by it.

        Raises `StorageError` if the lock was lost: the files of two builds would mix.
        """
        with write_errors(self.destination):
            self._check()
            upload_folder(self.building, self._uploaded, INFO_FILE)
            self._check()
            copy_folder(self._uploaded, self.destination, INFO_FILE)
        remove_unneeded(self._uploaded)

    def reject(self) -> None:
        """Move what was built to `failed`, a manifest or a look; a manifest in `destination` stays."""
        with write_errors(self.failed):
            upload_folder(self.building, self.failed, INFO_FILE)

    def keep_look(self) -> None:
        """Move what was built to `looked_at`; a manifest in `destination` stays."""
        with write_errors(self.looked_at):
            upload_folder(self.building, self.looked_at, INFO_FILE)

    def readable(self) -> Path:
        """Return the folder to read."""
        return self.destination


def manifest_folders(destination: Path) -> ManifestFolders:
    """Return the folders of the manifest at `destination`, which may be in an object store."""
    return StoredManifestFolders(destination) if is_remote(destination) else ManifestFolders(destination)


def is_cache_key(name: str) -> bool:
    """Return True if `name` has the form of a folder in the cache."""
    return re.fullmatch("[0-9a-f]{16}", name) is not None


def _check_is_ours(folder: Path, is_ours: Callable[[set[str]], bool]) -> None:
    """Raise `StorageError` unless `folder` is absent or `is_ours` is true of the names in it."""
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

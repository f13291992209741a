"""The registry: one folder per version, and `registry.json` with the checksum of each and the name of the champion."""

import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cxr_platform.errors import BundleError, RegistryError
from cxr_platform.registry.bundle import (
    DESCRIPTION,
    VERSION,
    Bundle,
    check_bundle,
    read_bundle,
    read_description,
    write_bundle,
)
from cxr_platform.registry.checksums import file_checksum, read_bytes
from cxr_platform.registry.signing import check_signature, write_signature
from cxr_platform.registry.state import RegistryState, VersionEntry, number, parse_state, previous, restore_advice
from cxr_platform.storage.files import move_folder, remove_leftovers, write_atomically, write_errors
from cxr_platform.storage.lock import file_lock

if TYPE_CHECKING:
    from minisign import SecretKey

CHAMPION = "champion"
"""Alias of the champion, accepted in place of a version."""

STATE = "registry.json"
ADDING = ".adding."
CHANGE_SECONDS = 30.0
"""Longest wait for another change, which hashes up to two bundles."""
ADD_SECONDS = 3600.0
"""Longest wait for another version that is being added, which may include exporting a network."""


@dataclass(frozen=True)
class VersionCheck:
    """Result of `verify` for one folder; `problem` is `None` for a valid version."""

    name: str
    problem: str | None


class Registry:
    """Versions `v1`, `v2`, … in the folder `root`. Reading needs no lock and no permission to write."""

    def __init__(self, root: Path, public_key: str | None = None) -> None:
        """With a `public_key` of minisign only versions are opened that its owner has signed (`signing`)."""
        self.root, self._public_key = root.absolute(), public_key

    def state(self) -> RegistryState:
        """Return the content of registry.json, empty before the first version.

        Raise `RegistryError` if the file is damaged, or lost while there are versions.
        """
        path = self.root / STATE
        if path.exists() or path.is_symlink():
            return parse_state(read_bytes(path, RegistryError), path)
        if self._folders():
            raise RegistryError(
                f"Expected {path} beside {', '.join(self._folders())}.",
                received="no such file",
                advice=restore_advice(path),
            )
        return RegistryState()

    def versions(self) -> tuple[str, ...]:
        """Return every version that was added, oldest first."""
        return self.state().names

    def champion(self) -> str | None:
        """Return the version of the champion, `None` if there is none."""
        return self.state().champion

    def open(self, version: str = CHAMPION) -> tuple[Path, Bundle]:
        """Return the folder and bundle of a version after comparing its files with their checksums.

        Raise `RegistryError` if there is no such version, `BundleError` if one of its files has changed, or if the
        version is not signed and has to be.
        """
        folder, description, bundle = self._checked(version, self.state())
        if self._public_key is not None:
            check_signature(self.root, folder.name, description, self._public_key)
        return folder, bundle

    def sign(self, version: str, key: "SecretKey") -> Path:
        """Sign a version after comparing its files with their checksums, and return the file of the signature.

        What is signed is what was compared, byte by byte: others may be able to write to the registry.
        """
        with self.change() as state:
            folder, description, _ = self._checked(version, state)
            return write_signature(self.root, folder.name, description, key)

    def add(self, fill: Callable[[Path, str], Bundle]) -> str:
        """Add the next version and return its name; the champion stays the same.

        `fill(folder, version)` writes the files of the bundle into the empty `folder` and returns its description
        without `files`. The version appears complete or, if `fill` raises, not at all.
        """
        with write_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
        with self._lock(".add.lock", ADD_SECONDS):
            version = self._begin()
            folder = self.root / f"{ADDING}{uuid.uuid4().hex}"
            try:
                with write_errors(folder):
                    folder.mkdir()
                bundle = fill(folder, version)
                self._admit(folder, version, bundle)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        return version

    def verify(self, version: str | None = None) -> tuple[VersionCheck, ...]:
        """Open every version, or one, and return a check of each; folders that are no version fail theirs."""
        state = self.state()
        chosen = state.names if version is None else (self._resolved(version, state),)
        checks = tuple(VersionCheck(name, self._problem(name)) for name in chosen)
        unknown = [name for name in self._folders() if name not in state.versions] if version is None else []
        return (
            *checks,
            *(VersionCheck(name, f"Expected the version in {STATE}. Remove the folder.") for name in unknown),
        )

    @contextmanager
    def change(self) -> Iterator[RegistryState]:
        """Yield the state while no other process can change it; call `write` within the block."""
        if not self.root.is_dir():
            raise RegistryError(f"Expected a registry at {self.root}.", received="no such folder")
        with self._lock(".lock", CHANGE_SECONDS):
            yield self.state()

    def write(self, state: RegistryState) -> None:
        """Replace registry.json and keep its content as the previous state; call only within `change`."""
        path = self.root / STATE
        remove_leftovers(path)
        if path.exists():
            write_atomically(previous(path), read_bytes(path, RegistryError))
        write_atomically(path, state.to_json())

    def _checked(self, version: str, state: RegistryState) -> tuple[Path, bytes, Bundle]:
        """Return folder, bytes of bundle.json and bundle of a version, all read once; raise as `open`."""
        name = self._resolved(version, state)
        folder = self.root / name
        if folder.is_symlink():
            raise RegistryError(f"Expected a folder at {folder}.", received="a symbolic link", advice="Remove it.")
        description = read_description(folder, state.versions[name].sha256)
        bundle = check_bundle(folder, description)
        if bundle.version != name:
            raise BundleError(f"Expected the bundle of {name} in {folder}.", received=bundle.version)
        return folder, description, bundle

    def _lock(self, name: str, seconds: float) -> AbstractContextManager[None]:
        advice = "Wait for it to end, and run the same command again."
        return file_lock(self.root / name, f"the registry {self.root}", advice, seconds)

    def _begin(self) -> str:
        """Return the next version and remove what interrupted additions left; call only under the lock for adding."""
        for leftover in self.root.glob(f"{ADDING}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        with self.change() as state:
            if not (self.root / STATE).exists():
                self.write(state)
            return f"v{1 + max(map(number, (*state.versions, *self._folders())), default=0)}"

    def _admit(self, folder: Path, version: str, bundle: Bundle) -> None:
        if bundle.version != version:
            raise RegistryError(f"Expected a bundle of version {version}.", received=bundle.version)
        write_bundle(folder, bundle)
        sha256 = file_checksum(folder / DESCRIPTION, RegistryError).sha256
        read_bundle(folder, sha256)
        with self.change() as state:
            move_folder(folder, self.root / version)
            versions = {**state.versions, version: VersionEntry(sha256=sha256, created=bundle.created)}
            try:
                self.write(state.model_copy(update={"versions": versions}))
            except BaseException:
                if version not in self.state().versions:
                    (self.root / version).rename(folder)
                raise

    def _problem(self, version: str) -> str | None:
        try:
            self.open(version)
        except RegistryError as error:
            return str(error)
        return None

    def _folders(self) -> list[str]:
        if not self.root.is_dir():
            return []
        return sorted((e.name for e in self.root.iterdir() if VERSION.fullmatch(e.name)), key=number)

    def _resolved(self, version: str, state: RegistryState) -> str:
        name = state.champion if version == CHAMPION else version
        if name is None or name not in state.versions:
            raise self._absent(version, state)
        return name

    def _absent(self, version: str, state: RegistryState) -> RegistryError:
        if version == CHAMPION:
            return RegistryError(
                f"Expected a champion in {self.root}.",
                received="none yet" if state.versions else "no versions",
                advice="Promote one: cxr registry promote VERSION." if state.versions else "Make one: make champion.",
            )
        return RegistryError(
            f"Expected a version out of {', '.join(state.names) or 'none yet'} in {self.root}.", received=repr(version)
        )

"""The registry: one folder a version, and `registry.json`, which knows the hash of each and names the champion."""

import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cxr_platform.errors import RegistryError
from cxr_platform.registry.bundle import DESCRIPTION, VERSION, Bundle, read_bundle, write_bundle
from cxr_platform.registry.checksums import file_checksum, read_bytes
from cxr_platform.registry.state import State, VersionEntry, number, parse_state, previous, restore_advice
from cxr_platform.storage.files import move_folder, remove_leftovers, write_atomically, write_errors
from cxr_platform.storage.lock import file_lock

CHAMPION = "champion"
"""The alias that `open` and the verbs take in place of a version."""

STATE = "registry.json"
ADDING = ".adding."
CHANGE_SECONDS = 30.0
"""How long a change waits for another one, which takes as long as hashing two bundles."""

ADD_SECONDS = 3600.0
"""How long adding waits for another one, which may be exporting a network."""


@dataclass(frozen=True)
class Check:
    """What `verify` found of one version, or of a folder that is none; `problem` is `None` where all is well."""

    name: str
    problem: str | None


class Registry:
    """Versions `v1`, `v2`, … below `root`. Reading needs no lock and no permission to write."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def state(self) -> State:
        """The parsed registry.json; empty where nothing was added yet; `RegistryError` if it is broken or lost."""
        path = self.root / STATE
        if path.exists() or path.is_symlink():
            return parse_state(read_bytes(path, RegistryError), path)
        if self._folders():
            raise RegistryError(
                f"Expected {path} beside {', '.join(self._folders())}.",
                received="no such file",
                advice=restore_advice(path),
            )
        return State()

    def versions(self) -> tuple[str, ...]:
        """Every version that was added, the oldest first."""
        return self.state().names

    def champion(self) -> str | None:
        """The version that the alias `champion` names."""
        return self.state().champion

    def open(self, version: str = CHAMPION) -> tuple[Path, Bundle]:
        """The folder and bundle of a version, every byte compared with its hash.

        Raises `RegistryError` for a version that there is not, `BundleError` for one that is not as it was added.
        """
        state = self.state()
        name = self._resolved(version, state)
        folder = self.root / name
        if folder.is_symlink():
            raise RegistryError(f"Expected a folder at {folder}.", received="a symbolic link", advice="Remove it.")
        return folder, read_bundle(folder, state.versions[name].sha256)

    def add(self, fill: Callable[[Path, str], Bundle]) -> str:
        """Make the next version and return its name; it is not the champion by that.

        `fill(folder, version)` writes the members of the bundle into the empty `folder` and returns its description
        without `files`. The version appears whole or, whatever `fill` raises, not at all.
        """
        with write_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
        with file_lock(self.root / ".add.lock", ADD_SECONDS):
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

    def verify(self, version: str | None = None) -> tuple[Check, ...]:
        """Open every version, or one, and say of each what is wrong with it; folders that are no version too."""
        state = self.state()
        chosen = state.names if version is None else (self._resolved(version, state),)
        checks = tuple(Check(name, self._problem(name)) for name in chosen)
        strange = [name for name in self._folders() if name not in state.versions] if version is None else []
        return (*checks, *(Check(name, f"Expected {STATE} to know it. Remove the folder.") for name in strange))

    @contextmanager
    def change(self) -> Iterator[State]:
        """The state, while no other process changes it; `write` within."""
        if not self.root.is_dir():
            raise RegistryError(f"Expected a registry at {self.root}.", received="no such folder")
        with file_lock(self.root / ".lock", CHANGE_SECONDS):
            yield self.state()

    def write(self, state: State) -> None:
        """Replace registry.json, only within `change`; what it was before stays beside it."""
        path = self.root / STATE
        remove_leftovers(path)
        if path.exists():
            write_atomically(previous(path), read_bytes(path, RegistryError))
        write_atomically(path, state.to_json())

    def _begin(self) -> str:
        """The next number; only under the lock for adding, so that what another add has left is a dead one's."""
        for leftover in self.root.glob(f"{ADDING}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        with self.change() as state:
            if not (self.root / STATE).exists():
                self.write(state)
            return f"v{1 + max(map(number, (*state.versions, *self._folders())), default=0)}"

    def _admit(self, folder: Path, version: str, bundle: Bundle) -> None:
        if bundle.version != version:
            raise RegistryError(f"Expected the bundle to call itself {version}.", received=bundle.version)
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

    def _resolved(self, version: str, state: State) -> str:
        name = state.champion if version == CHAMPION else version
        if name is None or name not in state.versions:
            raise self._absent(version, state)
        return name

    def _absent(self, version: str, state: State) -> RegistryError:
        if version == CHAMPION:
            return RegistryError(
                f"Expected a champion in {self.root}.",
                received="none yet" if state.versions else "no versions",
                advice="Promote one: cxr registry promote VERSION." if state.versions else "Make one: make champion.",
            )
        return RegistryError(
            f"Expected a version out of {', '.join(state.names) or 'none yet'} in {self.root}.", received=repr(version)
        )

"""Several data folders as one: hospitals keep their images in different places.

With one folder the sources have the names of `sources.find_candidates`. With several, each name begins with that of
its folder: `children/chest_xray`, or `children` where the folder itself is the collection. Folders of one name get as
many folders above them in front as tell them apart (`north/export` and `south/export`).
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, product
from pathlib import Path
from typing import TypeVar

from cxr_platform.config import SelectionConfig
from cxr_platform.errors import ConfigError, SourceError
from cxr_platform.intake.candidate import Candidate
from cxr_platform.intake.layouts.collection import as_text
from cxr_platform.intake.overrule import FILE_NAME, Overrule, read_overrule
from cxr_platform.intake.sources import LOOSE, Inventory, find_candidates
from cxr_platform.storage.files import read_errors
from cxr_platform.storage.paths import is_remote

T = TypeVar("T")
DataPaths = Path | Sequence[Path]
"""A data folder, or several."""
FindFiles = Callable[[Path, SelectionConfig, Collection[str]], Inventory]
"""What lists the files of one data folder, as `find_candidates` does."""


@dataclass(frozen=True)
class DataFolder:
    """A data folder with what `find_candidates` found in it; `name` is empty if it is the only one."""

    path: Path
    name: str
    found: Inventory

    @cached_property
    def inventory(self) -> Inventory:
        """The inventory with the names that sources and files have beside those of other folders."""
        found = self.found
        return Inventory(
            candidates=[self._renamed(candidate) for candidate in found.candidates],
            missing_files={self.source(source): number for source, number in found.missing_files.items()},
            tables=[self.source_path(table) for table in found.tables],
            ignored_columns={self.source(source): columns for source, columns in found.ignored_columns.items()},
            synthetic_sources=frozenset(map(self.source, found.synthetic_sources)),
            folders=found.folders,
            origins={self.source(source): origin for source, origin in found.origins.items()},
        )

    @property
    def own_overrule(self) -> Path | None:
        """The lists that lie in the folder, if there are some."""
        path = self.path / FILE_NAME
        return path if path.is_file() else None

    def overrule(self) -> Overrule:
        """Return the folder's own allow and deny lists, which name files as if it were the only folder."""
        with read_errors(self.path, remote_only=True):
            if self.own_overrule is None:
                return Overrule()
            lists = read_overrule(self.own_overrule, {candidate.source_path for candidate in self.found.candidates})
        return Overrule(
            allow=frozenset(map(self.source_path, lists.allow)), deny=frozenset(map(self.source_path, lists.deny))
        )

    def source(self, own: str) -> str:
        """Return the name of a source whose name is `own` if this is the only folder."""
        if not self.name or own == LOOSE:
            return own
        is_folder = own == as_text(self.path.name) and self.found.folders == (self.path,)
        return self.name if is_folder else f"{self.name}/{own}"

    def source_path(self, own: str) -> str:
        """Return `SOURCE/relative/path` of a file, or of a table, whose path is `own` if this is the only folder."""
        if not self.name:
            return own
        source, _, file = own.partition("/")
        if source == LOOSE:
            return f"{LOOSE}/{self.name}/{file}"
        return f"{self.source(source)}/{file}" if file else f"{self.name}/{own}"

    def _renamed(self, candidate: Candidate) -> Candidate:
        return replace(
            candidate, source=self.source(candidate.source), source_path=self.source_path(candidate.source_path)
        )


def data_paths(data: DataPaths) -> tuple[Path, ...]:
    """Return the folders of `data`."""
    return tuple(data) if isinstance(data, Sequence) else (data,)


def read_data_folders(
    data: DataPaths,
    selection: SelectionConfig,
    outside: Collection[str] = (),
    find: FindFiles = find_candidates,
) -> tuple[DataFolder, ...]:
    """Return each folder of `data` with its files, as `find` lists them; `outside` has the names of `DataFolder`.

    Raises `ConfigError` for a folder that is given twice or lies in another one, the errors of `find_candidates`, and
    `StorageError` with the folder whose object store does not answer.
    """
    paths = data_paths(data)
    if len(paths) == 1:
        return (DataFolder(paths[0].resolve(), "", _found(find, paths[0], selection, outside)),)
    resolved = [path.resolve() for path in paths]
    _check_apart(resolved)
    names = folder_names(resolved)
    begin = tuple(f"{name}/" for name in names)
    if unknown := [source for source in outside if not f"{source}/".startswith(begin)]:
        raise SourceError(
            f"Expected outside sources that begin with the name of a data folder: {', '.join(names)}.",
            received=", ".join(map(repr, unknown)),
        )
    folders = tuple(
        DataFolder(path, name, _found(find, path, selection, _own_names(path, name, outside)))
        for path, name in zip(resolved, names, strict=True)
    )
    _check_sources(folders)
    return folders


def _found(find: FindFiles, path: Path, selection: SelectionConfig, outside: Collection[str]) -> Inventory:
    with read_errors(path, remote_only=True):
        return find(path, selection, outside)


def _own_names(path: Path, name: str, outside: Collection[str]) -> tuple[str, ...]:
    """Return those of the `outside` sources that lie in a folder, as they are called in it."""
    inside = tuple(source[len(name) + 1 :] for source in outside if source.startswith(f"{name}/"))
    return (as_text(path.name), *inside) if name in outside else inside


def merged(folders: Sequence[DataFolder]) -> Inventory:
    """Return the files of all folders as one inventory."""
    parts = [folder.inventory for folder in folders]
    candidates = sorted((c for part in parts for c in part.candidates), key=lambda candidate: candidate.source_path)
    return Inventory(
        candidates=candidates,
        missing_files=_joined(part.missing_files for part in parts),
        tables=sorted(table for part in parts for table in part.tables),
        ignored_columns=_joined(part.ignored_columns for part in parts),
        synthetic_sources=frozenset().union(*(part.synthetic_sources for part in parts)),
        folders=tuple(folder for part in parts for folder in part.folders),
        origins=_joined(part.origins for part in parts),
    )


def _joined(parts: Iterable[dict[str, T]]) -> dict[str, T]:
    return {source: value for part in parts for source, value in part.items()}


def folder_names(paths: Sequence[Path]) -> tuple[str, ...]:
    """Return the name of each folder: its last part, with as many before it as its namesakes need to differ."""
    parts = [tuple(part for part in as_text(str(path)).split("/") if part) for path in paths]
    depths = [1] * len(parts)
    while True:
        names = ["/".join(own[-depth:]) for own, depth in zip(parts, depths, strict=True)]
        alike = Counter(names)
        longer = [
            depth + (alike[name] > 1 and depth < len(own))
            for name, depth, own in zip(names, depths, parts, strict=True)
        ]
        if longer == depths:
            return tuple(names)
        depths = longer


def _check_apart(paths: Sequence[Path]) -> None:
    for one, other in combinations(paths, 2):
        if _one_in_another(one, other):
            raise ConfigError(
                "Expected data folders of which none is given twice or lies in another.",
                received=f"{one} twice" if one == other else f"{one} and {other}",
                advice="A file can belong to one source only; give each folder once.",
            )


def _one_in_another(one: Path, other: Path) -> bool:
    return is_remote(one) == is_remote(other) and (one.is_relative_to(other) or other.is_relative_to(one))


def _check_sources(folders: Sequence[DataFolder]) -> None:
    """Raise `SourceError` if a sources.toml names a folder that another data folder reads too, or names repeat."""
    for one, other in combinations(folders, 2):
        for first, second in product(one.found.folders, other.found.folders):
            if _one_in_another(first, second):
                raise SourceError(
                    f"Expected {one.path} and {other.path} to have no collection in common.",
                    received=f"{first} and {second}",
                    advice="A sources.toml names it: leave it out there, or do not give the other folder.",
                )
    counted = Counter(source for folder in folders for source in folder.inventory.missing_files)
    if twice := sorted(source for source, number in counted.items() if number > 1):
        raise SourceError(
            "Expected sources of different names in the data folders.",
            received=f"{', '.join(twice)} twice",
            advice="Rename a folder, or name its collections in a sources.toml.",
        )

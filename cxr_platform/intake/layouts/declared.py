"""`sources.toml`: collections by name, where recognising them by their layout is not enough.

[sources.hospital]
path = "exports/2020"        # relative to DATA, or absolute
layout = "class_folder"      # recognised if absent
role = "external"            # in no fold, kept for scoring; "study" if absent
labels = { wet = "Edema" }   # class_folder: further folder names

[sources.pacs]
path = "pacs"
table = "labels.csv"         # dicom: a CSV of filename and label, in the folder or relative to DATA
# label = "Covid19"          # or one class for every file
"""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field

from cxr_platform.errors import ConfigError, SourceError
from cxr_platform.intake.candidate import Role
from cxr_platform.intake.layouts.collection import Collection, walk
from cxr_platform.labels import CLASSES
from cxr_platform.storage.paths import is_remote
from cxr_platform.validation import Record, read_toml, validate

FILE_NAME = "sources.toml"


class SourceConfig(Record):
    """One table of a sources.toml."""

    path: str
    layout: Literal["cohen", "kermany", "nih", "class_folder", "dicom", "phantoms"] | None = None
    role: Role = "study"
    labels: dict[str, str] = Field(default_factory=dict)
    label: str | None = None
    table: str | None = None


class _SourcesFile(Record):
    sources: dict[str, SourceConfig]


def read_declared(data: Path) -> list[tuple[Collection, str | None]]:
    """The collections that DATA/sources.toml names, each with the name of its layout or `None` where it is not given.

    `data` is an absolute path without links, as are the folders that come back.
    Raises `ConfigError` for a key or a value that is not known, and `SourceError` for a folder that is absent or empty.
    """
    file = data / FILE_NAME
    tables = validate(_SourcesFile, read_toml(file), str(file)).sources
    if not tables:
        raise ConfigError(f"{file}: expected tables [sources.NAME].", received="none", advice="Name one, or remove it.")
    declared = {name: _checked(name, config, file) for name, config in tables.items()}
    folders = {name: (data / config.path).resolve() for name, config in declared.items()}
    _check_apart(folders, file)
    return [(_collection(data, name, config, folders[name]), _layout(config)) for name, config in declared.items()]


def _checked(name: str, config: SourceConfig, file: Path) -> SourceConfig:
    where = f"{file}: sources.{name}"
    if "/" in name or name in ("", "."):
        raise ConfigError(f"{where}: expected a name without slashes.", advice="The folder belongs under path.")
    given = {"label": config.label} if config.label is not None else {}
    given.update({f"labels.{folder}": label for folder, label in config.labels.items()})
    for key, label in given.items():
        if label not in CLASSES:
            raise ConfigError(f"{where}: {key}: expected one of {', '.join(CLASSES)}.", received=repr(label))
    _check_fitting(config, where)
    return config


def _check_fitting(config: SourceConfig, where: str) -> None:
    """A key that the layout would not look at is an error, never ignored."""
    if config.label is not None and config.table is not None:
        raise ConfigError(f"{where}: expected label or table.", received="both", advice="Remove one.")
    if (config.label or config.table) and config.layout not in (None, "dicom"):
        raise ConfigError(f"{where}: label and table belong to the layout dicom.", received=repr(config.layout))
    if config.labels and (config.layout not in (None, "class_folder") or config.label or config.table):
        raise ConfigError(f"{where}: labels belongs to the layout class_folder.", received=repr(_layout(config)))


def _layout(config: SourceConfig) -> str | None:
    if config.label or config.table:
        return "dicom"
    return "class_folder" if config.labels else config.layout


def _check_apart(folders: dict[str, Path], file: Path) -> None:
    for name, folder in folders.items():
        for other, outer in folders.items():
            if name != other and folder.is_relative_to(outer):
                raise ConfigError(
                    f"{file}: expected folders of which none lies in another.",
                    received=f"sources.{name} ({folder}) in sources.{other} ({outer})",
                    advice="A file can belong to one source only.",
                )


def _collection(data: Path, name: str, config: SourceConfig, folder: Path) -> Collection:
    if not folder.is_dir():
        raise SourceError(
            f"{data / FILE_NAME}: sources.{name}: path: expected a folder.",
            received=str(folder),
            advice=f"Paths are relative to {data}.",
        )
    files = tuple(file for file in walk(folder) if folder / file != data / FILE_NAME)
    if not files:
        raise SourceError(f"{data / FILE_NAME}: sources.{name}: expected files in {folder}.", received="none")
    table = _find_table(data, name, config.table, folder)
    return Collection(name, folder, files, config.role, config.labels, config.label, table)


def _plain(path: Path) -> Path:
    """Without `..`, which an object store does not know."""
    return path.resolve() if is_remote(path) else Path(os.path.normpath(path))


def _find_table(data: Path, name: str, table: str | None, folder: Path) -> Path | None:
    if table is None:
        return None
    places = [_plain(place / table) for place in (folder, data)]
    for place in places:
        if place.is_file():
            return place
    raise SourceError(
        f"{data / FILE_NAME}: sources.{name}: table: expected a CSV.",
        received=f"neither {' nor '.join(map(str, places))}",
        advice="Paths are relative to the source's folder, or to DATA.",
    )

"""`sources.toml`: the collections of a data folder and how to read them, if their layouts alone do not show it.

[sources.hospital]
path = "exports/2020"        # relative to the data folder, or absolute
layout = "class_folder"      # recognised if absent
role = "external"            # in no fold, kept for scoring; "study" if absent
labels = { wet = "Edema" }   # class_folder: further folder names

[sources.pacs]
path = "pacs"
table = "labels.csv"         # dicom: a CSV of filename and label, in the source's folder or relative to the data folder

[sources.one-class]
path = "covid"
label = "Covid19"            # dicom: one class for every file
table = "data.csv"           # beside `label`: patients and views of the files
files = ["png/*"]            # with any layout: the files that may be images; all if absent
origin = "Our hospital"      # with any layout: where the images come from; sources of one origin count as one

[sources.tuberculosis]
path = "shenzhen/tb"
outside = true               # images of none of the seven classes: in no fold, kept for scoring; any folder of images
table = "patients.csv"       # with it: patients, views and findings of the files, if a CSV has them

[sources.one-class.reader_labels]  # with any layout: a second table of labels, by readers
table = "readers.csv"        # in the source's folder or relative to the data folder
file = "image"               # its columns; found by their names if absent
label = "reading"
classes = { clear = "Normal", opacity = "Pneumonia" }  # other words stand for none of the seven classes
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from cxr_platform.errors import ConfigError, SourceError
from cxr_platform.intake.layouts.collection import Collection, ReaderTable, walk
from cxr_platform.intake.vocabulary import plain
from cxr_platform.labels import CLASSES
from cxr_platform.storage.paths import is_remote
from cxr_platform.validation import Record, read_toml, validate

FILE_NAME = "sources.toml"
ADVICE = "The keys are described in docs/how-to/own-images.md."
LayoutName = Literal["cohen", "kermany", "nih", "class_folder", "dicom", "phantoms"]
OUTSIDE_LAYOUTS = ("cohen", "nih", "dicom")
"""Layouts whose table states findings, also of images outside the seven classes."""


def _class_label(label: str) -> str:
    if label not in CLASSES:
        raise ValueError(f"one of {', '.join(CLASSES)}")
    return label


ClassLabel = Annotated[str, AfterValidator(_class_label)]
Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]


class ReaderLabelsConfig(Record):
    """A second table of labels, by readers. Without `classes` the words are those of findings."""

    table: Text
    file: Text | None = None
    label: Text | None = None
    classes: dict[str, ClassLabel] = Field(default_factory=dict)

    def at(self, path: Path) -> ReaderTable:
        """Return the table that lies at `path`."""
        return ReaderTable(path, self.file, self.label, {plain(word): label for word, label in self.classes.items()})


class SourceKeys(Record):
    """How to read a collection. A key that the layout would ignore is an error."""

    layout: LayoutName | None = None
    labels: dict[str, ClassLabel] = Field(default_factory=dict)
    label: ClassLabel | None = None
    table: Text | None = None
    files: tuple[Text, ...] = ()
    origin: Text | None = None
    reader_labels: ReaderLabelsConfig | None = None

    @model_validator(mode="after")
    def _keys_fit_the_layout(self) -> "SourceKeys":
        if (self.label or self.table) and self.layout not in (None, "dicom"):
            raise ValueError(f"label and table only with the layout dicom, not {self.layout!r}")
        if self.labels and self.implied_layout != "class_folder":
            raise ValueError(f"labels only with the layout class_folder, not {self.implied_layout!r}")
        return self

    @property
    def implied_layout(self) -> LayoutName | None:
        """The layout that is given or follows from the other keys; `None` if it has to be recognised."""
        if self.layout is None and (self.label or self.table):
            return "dicom"
        return "class_folder" if self.layout is None and self.labels else self.layout


class SourceConfig(SourceKeys):
    """One table of a sources.toml."""

    path: str
    role: Literal["study", "external"] = "study"
    outside: bool = False

    @model_validator(mode="after")
    def _outside_images_have_no_class(self) -> "SourceConfig":
        if not self.outside:
            return self
        if "role" in self.model_fields_set:
            raise ValueError("role or outside = true, not both: images outside the classes are in no fold anyway")
        if self.label or self.labels or self.reader_labels:
            raise ValueError(
                "no label, labels or reader_labels with outside = true: its images are of none of the seven classes"
            )
        if self.layout not in (None, *OUTSIDE_LAYOUTS):
            raise ValueError(f"one of the layouts {', '.join(OUTSIDE_LAYOUTS)} with outside = true, or none")
        return self


class SourcesFile(Record):
    """The content of a sources.toml."""

    sources: dict[str, SourceConfig]

    @model_validator(mode="after")
    def _names_can_begin_a_path(self) -> "SourcesFile":
        if not self.sources:
            raise ValueError("at least one table [sources.NAME]")
        for name in self.sources:
            if "/" in name or name in ("", "."):
                raise ValueError(f"names of sources without slashes, not {name!r}; the folder belongs under path")
        return self


def read_sources_toml(data: Path) -> list[tuple[Collection, LayoutName | None]]:
    """Return the collections that DATA/sources.toml names, each with its layout, `None` if that has to be recognised.

    `data` is an absolute path without links, as are the folders of the collections. Raises `ConfigError` for an unknown
    key or value, and `SourceError` for a folder that is absent or empty.
    """
    file = data / FILE_NAME
    configs = validate(SourcesFile, read_toml(file), str(file), advice=ADVICE).sources
    folders = {name: (data / config.path).resolve() for name, config in configs.items()}
    for name, folder in folders.items():
        for other, outer in folders.items():
            if name != other and folder.is_relative_to(outer):
                raise ConfigError(
                    f"{file}: expected folders of which none lies in another.",
                    received=f"sources.{name} ({folder}) in sources.{other} ({outer})",
                    advice="A file can belong to one source only.",
                )
    return [(_collection(data, name, config, folders[name]), config.implied_layout) for name, config in configs.items()]


def _collection(data: Path, name: str, config: SourceConfig, folder: Path) -> Collection:
    where = f"{data / FILE_NAME}: sources.{name}"
    if not folder.is_dir():
        raise SourceError(
            f"{where}: path: expected a folder.", received=str(folder), advice=f"Paths are relative to {data}."
        )
    files = tuple(file for file in walk(folder) if folder / file != data / FILE_NAME)
    if not files:
        raise SourceError(f"{where}: expected files in {folder}.", received="none")
    table = None if config.table is None else _table(f"{where}: table", config.table, (folder, data))
    readers = config.reader_labels
    if readers is not None:
        path = _table(f"{where}.reader_labels: table", readers.table, (folder, data))
    collection = Collection(
        name,
        folder,
        files,
        "outside" if config.outside else config.role,
        config.labels,
        config.label,
        table,
        declared=True,
        patterns=config.files,
        origin=config.origin,
        readers=None if readers is None else readers.at(path),
    )
    if not any(map(collection.is_image, files)):
        raise SourceError(
            f"{where}: files: expected patterns of file names in {folder}.",
            received=f"{', '.join(config.files)}, which fit none of {len(files)} files",
            advice="Patterns are of paths relative to the source's folder, as `images/*.png`; * also stands for /.",
        )
    return collection


def _table(where: str, name: str, folders: Sequence[Path]) -> Path:
    """Return the CSV called `name` in one of `folders`; raise `SourceError` if none has it."""
    places = [_without_dots(folder / name) for folder in folders]
    table = next((place for place in places if place.is_file()), None)
    if table is None:
        raise SourceError(
            f"{where}: expected a CSV.",
            received=f"neither {' nor '.join(map(str, places))}",
            advice="Paths are relative to the source's folder, or to the data folder.",
        )
    return table


def _without_dots(path: Path) -> Path:
    """Return `path` without `..`, which an object store does not support."""
    return path.resolve() if is_remote(path) else Path(os.path.normpath(path))

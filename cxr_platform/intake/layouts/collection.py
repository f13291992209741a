"""One folder of images with its files, and the interface of a layout that reads it."""

import fnmatch
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from cxr_platform.config import SelectionConfig
from cxr_platform.errors import SourceError
from cxr_platform.intake.candidate import Candidate, Refusal, Role
from cxr_platform.storage.files import file_names
from cxr_platform.storage.paths import is_remote


@dataclass(frozen=True)
class ReaderTable:
    """A second table of labels, by readers: the columns of file and label, and their words for classes.

    Words that are not in `classes` (in `vocabulary.plain` form) stand for none of the seven classes. A column that is
    `None` is found by its name. `stated` says that a sources.toml names the table, not what is known of the collection.
    """

    path: Path
    file: str | None = None
    label: str | None = None
    classes: Mapping[str, str] = field(default_factory=dict)
    stated: bool = True


@dataclass(frozen=True)
class Collection:
    """A folder and every file in it.

    `files` are POSIX paths relative to `folder`. `labels` (folder name → class), `label` (one class for every file),
    `table` (a CSV, in the folder or elsewhere), `patterns` (of the files that may be images; all if empty), `origin`
    (the hospital or publication that the images come from; the source's own name if `None`) and `readers` come from the
    description of a public collection or from a sources.toml, which `declared` says that there is.
    """

    name: str
    folder: Path
    files: tuple[str, ...]
    role: Role = "study"
    labels: Mapping[str, str] = field(default_factory=dict)
    label: str | None = None
    table: Path | None = None
    declared: bool = False
    patterns: tuple[str, ...] = ()
    origin: str | None = None
    readers: ReaderTable | None = None

    @cached_property
    def root_files(self) -> frozenset[str]:
        """The files directly in the folder."""
        return frozenset(file for file in self.files if "/" not in file)

    def is_image(self, file: str) -> bool:
        """Return True if `file` fits one of `patterns`, or if there are none."""
        return not self.patterns or any(fnmatch.fnmatchcase(file, pattern) for pattern in self.patterns)

    @cached_property
    def folders(self) -> frozenset[str]:
        """Every folder below the collection's own that holds a file at any depth, as a relative path."""
        leaves = {PurePosixPath(folder) for folder in {file.rpartition("/")[0] for file in self.files}}
        return frozenset(str(p) for leaf in leaves for p in (leaf, *leaf.parents) if p.name)

    def source_path(self, file: str) -> str:
        """Return `SOURCE/relative/path` of a file."""
        return f"{self.name}/{as_text(file)}"

    def candidate(self, file: str, **fields: Any) -> Candidate:
        """Return the `Candidate` of one of `files`, with its further `fields`."""
        return Candidate(self.name, self.folder / file, self.source_path(file), role=self.role, **fields)

    def refused(self, file: str, reason: str, detail: str) -> Candidate:
        """Return the `Candidate` of a file that is excluded and about which the collection states nothing else."""
        return self.candidate(file, refusal=Refusal(reason, detail))


@dataclass(frozen=True)
class Reading:
    """A collection as its layout reads it.

    `candidates` holds one per file that is not a table; `missing_files` counts the rows without a file.
    `ignored_columns` are the columns of its table that the layout does not understand, as they are written.
    """

    candidates: list[Candidate]
    tables: list[str] = field(default_factory=list)
    missing_files: int = 0
    ignored_columns: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Layout:
    """A way in which collections are published.

    `expected` describes it in an error. `recognises` looks at names only. `read` opens the tables, never an image, and
    raises `SourceError` for a table that is not as published. `synthetic` says that its images are drawn by a program.
    """

    name: str
    expected: str
    recognises: Callable[[Collection], bool]
    read: Callable[[Collection, SelectionConfig], Reading]
    synthetic: bool = False


def source_toml(collection: Collection, **keys: str) -> str:
    """Return the lines that name `collection` with these further keys in a sources.toml."""
    lines = {"path": str(collection.folder), **keys}
    name = as_text(collection.name.rpartition("/")[2])
    return "\n".join([f"[sources.{toml_text(name)}]", *(f"{key} = {toml_text(text)}" for key, text in lines.items())])


def toml_text(text: str) -> str:
    """Return `text` as a string of TOML; JSON's strings are some."""
    return json.dumps(text, ensure_ascii=False)


def is_dicom_name(file: str) -> bool:
    """Return True for the name of a DICOM file."""
    return file.lower().endswith((".dcm", ".dicom"))


def as_text(name: str) -> str:
    """Return a file name with bytes that are not UTF-8 escaped (`\\xe9`), because Parquet stores UTF-8 only."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def walk(folder: Path) -> tuple[str, ...]:
    """Return every file under `folder` as a sorted relative POSIX path, without `.git` folders.

    Links are followed, except to a folder that contains the link. A broken link counts as a file, so that it is
    reported and not overlooked. Raises `SourceError` for a folder that cannot be listed.
    """
    return tuple(sorted(_walk_store(folder) if is_remote(folder) else _walk(str(folder), "", ())))


def _walk_store(folder: Path) -> Iterator[str]:
    try:
        yield from (name for name in file_names(folder) if ".git" not in name.split("/")[:-1])
    except OSError as error:
        raise _cannot_list(str(folder), error) from error


def _walk(folder: str, prefix: str, ancestors: tuple[tuple[int, int], ...]) -> Iterator[str]:
    try:
        status = os.stat(folder)  # noqa: PTH116 - as is os.scandir: paths of 112,120 files as objects cost seconds
        identity = (status.st_dev, status.st_ino)
        if identity in ancestors:
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                if _is_folder(entry):
                    if entry.name != ".git":
                        yield from _walk(entry.path, f"{prefix}{entry.name}/", (*ancestors, identity))
                elif _is_file(entry):
                    yield prefix + entry.name
    except OSError as error:
        raise _cannot_list(folder, error) from error


def _cannot_list(folder: str, error: OSError) -> SourceError:
    return SourceError(
        f"Expected a folder that can be listed at {folder}.",
        received=error.strerror or error,
        advice="Correct its permissions or move it out of the data folder.",
    )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Return True for a regular file or a broken link; sockets, devices and links to them are neither."""
    try:
        return entry.is_file() or not os.path.exists(entry.path)  # noqa: PTH110 - see `_walk`
    except OSError:
        return True

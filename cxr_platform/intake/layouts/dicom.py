"""Images with a CSV that names file and finding, as DICOM collections are published; or DICOM files in class folders.

The table has a column for the file and one for the finding; patient, view, sex and age are optional (the names of the
columns are `vocabulary.COLUMNS`). A file is named by its path relative to the folder, or by its name if only one file
has it. Whether a file really is DICOM is decided by its content, later: the layout reads PNG and JPEG as well.
"""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePosixPath

from cxr_platform.config import SelectionConfig
from cxr_platform.errors import SourceError
from cxr_platform.intake.eligibility import classes_by_name, judge_findings
from cxr_platform.intake.layouts import class_folder
from cxr_platform.intake.layouts.collection import Collection, Layout, Reading
from cxr_platform.intake.layouts.tables import Table, cell, join_files, listed, read_rows
from cxr_platform.intake.vocabulary import COLUMNS


def _recognises(collection: Collection) -> bool:
    return bool(_tables(collection)) and any(file.lower().endswith(".dcm") for file in collection.files)


def _tables(collection: Collection) -> list[str]:
    return sorted(file for file in collection.root_files if file.lower().endswith(".csv"))


def _read(collection: Collection, selection: SelectionConfig) -> Reading:
    if collection.label:
        finding = collection.label
        return Reading([collection.candidate(f, label=finding, finding=finding) for f in collection.files])
    table = collection.table or _only_table(collection)
    return _read_table(collection, table, selection) if table else class_folder.LAYOUT.read(collection, selection)


def _only_table(collection: Collection) -> Path | None:
    tables = _tables(collection)
    if len(tables) > 1:
        raise SourceError(
            f"{collection.folder}: expected one CSV that names file and label.",
            received=", ".join(tables),
            advice=f'Name the one to read in sources.toml: [sources."{collection.name}"] table = "{tables[0]}".',
        )
    return collection.folder / tables[0] if tables else None


def _read_table(collection: Collection, path: Path, selection: SelectionConfig) -> Reading:
    files_by_name = Counter(PurePosixPath(file).name for file in collection.files)
    table, classes = Table(path), classes_by_name(selection)
    for row in read_rows(path, (COLUMNS["file"], COLUMNS["finding"])):
        file, finding = cell(row, "file").replace("\\", "/").removeprefix("./"), cell(row, "finding")
        if "/" not in file and files_by_name[file] > 1:
            raise SourceError(
                f"{path}: expected names that one file has.",
                received=f"{file}, which {files_by_name[file]} files are called",
                advice="Write paths relative to the folder in place of names.",
            )
        label, refusal = judge_findings(re.split(r"[|,;]", finding), classes, selection)
        table.add(file, listed(row, finding, label, refusal, selection))

    def key_of(file: str) -> str:
        return file if file in table.images else PurePosixPath(file).name

    inside = {file for file in collection.files if collection.folder / file == path}
    where = f"as its column {' or '.join(COLUMNS['file'])} names them, in {collection.folder}"
    reading = join_files(collection, table, key_of=key_of, where=where, tables=inside)
    return reading if inside else replace(reading, tables=[path.name])


LAYOUT = Layout("dicom", "*.dcm with a CSV of the columns filename and label", _recognises, _read)

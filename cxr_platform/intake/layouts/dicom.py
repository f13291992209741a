"""Images with a CSV that names file and finding, as DICOM collections are published; or DICOM files in class folders.

The table has a column `filename`, `file` or `path` and a column `label` or `finding`; `patient`, `view`, `sex` and
`age` are optional. A file is named by its path relative to the folder, or by its name where only one file has it.
Whether a file really is DICOM is decided by its content, later: the layout reads PNG and JPEG as well.
"""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePosixPath

from cxr_platform.config import SelectionConfig
from cxr_platform.errors import SourceError
from cxr_platform.intake.layouts import class_folder
from cxr_platform.intake.layouts.collection import Collection, Layout, Reading
from cxr_platform.intake.layouts.tables import Listed, Row, Table, first_of, give_rows, read_rows
from cxr_platform.intake.layouts.vocabulary import classes_by_name, judge_findings, judge_view, parse_age, parse_sex

_FILE = ("filename", "file", "path")
_FINDING = ("label", "finding")
_PATIENT = ("patient", "patient_id", "patientid")


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
    by_name = Counter(PurePosixPath(file).name for file in collection.files)
    table = Table(path)
    for row in read_rows(path, (_FILE, _FINDING)):
        table.add(_unambiguous(first_of(row, _FILE), by_name, path), _listed(row, selection))

    def key_of(file: str) -> str:
        return file if file in table.images else PurePosixPath(file).name

    inside = {file for file in collection.files if collection.folder / file == path}
    where = f"as its column {' or '.join(_FILE)} names them, in {collection.folder}"
    reading = give_rows(collection, table, key_of=key_of, where=where, tables=inside)
    return reading if inside else replace(reading, tables=[path.name])


def _unambiguous(file: str, by_name: Counter[str], table: Path) -> str:
    file = file.replace("\\", "/").removeprefix("./")
    if "/" not in file and by_name[file] > 1:
        raise SourceError(
            f"{table}: expected names that one file has.",
            received=f"{file}, which {by_name[file]} files are called",
            advice="Write paths relative to the folder in place of names.",
        )
    return file


def _listed(row: Row, selection: SelectionConfig) -> Listed:
    finding, view = first_of(row, _FINDING), row.get("view") or None
    findings = [part.strip() for part in re.split(r"[|,;]", finding)]
    label, refusal = judge_findings(findings, classes_by_name(selection), selection)
    return Listed(
        label=label,
        finding=finding,
        patient=first_of(row, _PATIENT) or None,
        view=view,
        sex=parse_sex(row.get("sex", "")),
        age=parse_age(row.get("age", "")),
        refusal=refusal or judge_view(view, selection),
    )


LAYOUT = Layout("dicom", "*.dcm with a CSV of the columns filename and label", _recognises, _read)

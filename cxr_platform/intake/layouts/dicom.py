"""Images with a CSV that names file and finding, as DICOM collections are published; or DICOM files in class folders.

The table has a column for the file and one for the finding, or a column for each finding (`finding_columns`); patient,
view, sex, age and modality are optional (names of columns are `vocabulary.COLUMNS`). A file is named as
`file_names.FileNames` describes; without a column of files it is named after the patient, as in RSNA's tables. Without
a column of patients, the path names the patient as in CheXpert, MIMIC-CXR and BIMCV. Several rows of a file, one
finding or one reader each, are one image. Whether a file really is DICOM is decided by its content, later: the layout
reads PNG and JPEG as well.

With `label` in a sources.toml every file is of one class. A table beside it, named as `table` or the only CSV in the
folder with files and patients or views, then gives these; it needs no finding, and the findings that it has are not
read. Without a patient there, folders may be patients as below a class folder (`class_folder`).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cxr_platform.config import SelectionConfig
from cxr_platform.errors import SourceError
from cxr_platform.intake.candidate import Candidate, Refusal
from cxr_platform.intake.eligibility import classes_by_name, judge_findings, judge_table_modality
from cxr_platform.intake.layouts import class_folder
from cxr_platform.intake.layouts.collection import Collection, Layout, Reading, is_dicom_name, source_toml, toml_text
from cxr_platform.intake.layouts.csv_rows import MetadataRow, cell, read_header
from cxr_platform.intake.layouts.file_names import normal_path
from cxr_platform.intake.layouts.finding_columns import FINDING_COLUMNS, finding_columns, present_findings
from cxr_platform.intake.layouts.listed_files import ListedFiles
from cxr_platform.intake.layouts.tables import JudgeFindings, MetadataTable, join_files, listed
from cxr_platform.intake.vocabulary import COLUMNS, column_key

FILES = (*COLUMNS["file"], *COLUMNS["patient"])
"""A table without a column of files names them after the patient."""
_PATIENT_FOLDER = re.compile(r"(?:^|/)(patient[ _-]?\d+|p\d{8}|sub-\w+)(?=/)", re.IGNORECASE)
"""A folder that CheXpert, MIMIC-CXR or BIMCV name after a patient."""
_SEPARATORS = re.compile(r"[|,;\[\]\"']")
"""Between findings; PadChest writes them as a list, `['normal', 'nodule']`."""


def _recognises(collection: Collection) -> bool:
    return bool(_tables(collection)) and any(map(is_dicom_name, collection.files))


def has_table(collection: Collection) -> bool:
    """Return True if there is a CSV beside the images, which the layout may read if it is named."""
    return bool(_tables(collection))


def _tables(collection: Collection) -> list[str]:
    return sorted(file for file in collection.root_files if file.lower().endswith((".csv", ".tsv")))


def _read(collection: Collection, selection: SelectionConfig) -> Reading:
    if collection.label:
        return _read_one_class(collection, collection.label, selection)
    table = collection.table or _only_table(collection)
    return _read_table(collection, table, selection) if table else class_folder.LAYOUT.read(collection, selection)


def _read_one_class(collection: Collection, label: str, selection: SelectionConfig) -> Reading:
    path = collection.table or table_of_patients(collection)
    table = MetadataTable(path or collection.folder, lambda _: (label, None))
    contradicting = False
    if path:
        judge, columns = _judge(selection), finding_columns(read_header(path))
        for row in table.read((FILES,), FINDING_COLUMNS):
            contradicting |= judge([stated_finding(row, columns)])[0] not in (None, label)
            table.add(file_name(row), listed(row, label, label, judge_table_modality(cell(row, "modality")), selection))
    if path and contradicting:
        table.ignored_columns += [
            name for name in read_header(path) if column_key(name) in {*COLUMNS["finding"], *columns}
        ]
    listed_files = ListedFiles.of(collection, path, table)
    of_folders = class_folder.patients_of_one_class(listed_files.files)

    def candidate(file: str) -> Candidate:
        fields: dict[str, Any] = {"label": label, "finding": label, **listed_files.stated(file)}
        if not fields.get("patient"):
            fields["patient"] = patient_of_path(file) or of_folders.get(file.rpartition("/")[0])
        return collection.candidate(file, **fields)

    return listed_files.reading(candidate)


def table_of_patients(collection: Collection) -> Path | None:
    """Return the CSV in the folder that has files and patients or views; raise `SourceError` if several do."""
    tables = [name for name in _tables(collection) if _has_patients(collection.folder / name)]
    if len(tables) > 1:
        raise SourceError(
            f"{collection.folder}: expected one CSV that names files and patients or views.",
            received=", ".join(tables),
            advice=_naming(collection, tables[0]),
        )
    return collection.folder / tables[0] if tables else None


def _has_patients(path: Path) -> bool:
    return _has(path, "file") and (_has(path, "patient") or _has(path, "view"))


def _has(path: Path, column: str) -> bool:
    return not {column_key(name) for name in read_header(path)}.isdisjoint(COLUMNS[column])


def _has_finding(path: Path) -> bool:
    return _has(path, "finding") or bool(finding_columns(read_header(path)))


def _only_table(collection: Collection) -> Path | None:
    tables = _tables(collection)
    if len(tables) > 1:
        paths = {name: collection.folder / name for name in tables}
        fits = (n for n, p in paths.items() if _has_finding(p) and (_has(p, "file") or _has(p, "patient")))
        raise SourceError(
            f"{collection.folder}: expected one CSV that names file and label.",
            received=", ".join(tables),
            advice=_naming(collection, next(fits, tables[0])),
        )
    return collection.folder / tables[0] if tables else None


def _naming(collection: Collection, table: str) -> str:
    """Return the advice to name `table` in a sources.toml, with TOML that can be pasted."""
    if collection.declared:
        return f"Name the one to read under [sources.{collection.name}] in sources.toml:\ntable = {toml_text(table)}"
    return f"Name the one to read in sources.toml, in the data folder:\n{source_toml(collection, table=table)}"


def _read_table(collection: Collection, path: Path, selection: SelectionConfig) -> Reading:
    judge = _judge(selection)
    table = MetadataTable(path, judge)
    columns = finding_columns(read_header(path))
    for row in table.read((FILES, (*COLUMNS["finding"], *columns)), columns):
        finding = stated_finding(row, columns)
        label, refusal = judge([finding])
        image = listed(row, finding, label, judge_table_modality(cell(row, "modality")) or refusal, selection)
        table.add(file_name(row), replace(image, patient=image.patient or patient_of_path(file_name(row))))
    inside = {file for file in collection.files if collection.folder / file == path}
    where = f"as its column of file names has them, in {collection.folder}"
    reading = join_files(collection, table, where=where, tables=inside)
    candidates = [_with_patient_of_path(collection, candidate) for candidate in reading.candidates]
    return replace(reading, candidates=candidates, tables=reading.tables if inside else [path.name])


def _judge(selection: SelectionConfig) -> JudgeFindings:
    classes = classes_by_name(selection)

    def judge(findings: Sequence[str]) -> tuple[str | None, Refusal | None]:
        parts = [part for finding in findings for part in _SEPARATORS.split(finding)]
        return judge_findings(parts, classes, selection)

    return judge


def stated_finding(row: MetadataRow, columns: Mapping[str, str]) -> str:
    """Return the finding of a row, of its column or of its `finding_columns`; empty if it states none."""
    return cell(row, "finding") or present_findings(row, columns)


def file_name(row: MetadataRow) -> str:
    """Return the name of the file of a row, which is the patient's without a column of files."""
    return cell(row, "file") or cell(row, "patient")


def patient_of_path(name: str) -> str | None:
    """Return the folder in the path of a file that CheXpert, MIMIC-CXR or BIMCV name after a patient."""
    match = _PATIENT_FOLDER.search(normal_path(name))
    return match[1] if match else None


def _with_patient_of_path(collection: Collection, candidate: Candidate) -> Candidate:
    file = candidate.path.relative_to(collection.folder).as_posix()
    return candidate if candidate.patient else replace(candidate, patient=patient_of_path(file))


LAYOUT = Layout("dicom", "*.dcm with a CSV of the columns filename and label", _recognises, _read)

"""A collection of images of none of the seven classes: a plain folder of images is enough.

A CSV in the folder, or the `table` of a sources.toml, may name patients, views and findings of the files. Where it
states no finding, that is the folder: `tuberculosis/P01/1.png` is tuberculosis. The columns are those of the layout
`dicom`. That a file's finding is one of the seven classes after all is judged for every layout, by `outside_candidate`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from cxr_platform.config import SelectionConfig
from cxr_platform.intake.candidate import Candidate, Refusal
from cxr_platform.intake.eligibility import judge_table_modality
from cxr_platform.intake.layouts import class_folder, dicom
from cxr_platform.intake.layouts.collection import Collection, Layout, Reading, as_text
from cxr_platform.intake.layouts.csv_rows import cell, read_header
from cxr_platform.intake.layouts.finding_columns import FINDING_COLUMNS, finding_columns
from cxr_platform.intake.layouts.listed_files import ListedFiles
from cxr_platform.intake.layouts.tables import MetadataTable, listed
from cxr_platform.intake.vocabulary import class_of, names_class, plain

WITHOUT_CLASS = ("finding-not-studied", "no-finding-given", "several-findings", "further-findings")
"""Reasons for which a layout refuses an image that has none of the seven classes, or more than one finding."""


def outside_candidate(candidate: Candidate) -> Candidate:
    """Return a candidate of an outside source without class: usable, unless its finding is one of the seven classes.

    It stays refused for any other reason that its collection states, such as its view.
    """
    refusal = candidate.refusal
    if refusal is None or refusal.reason in WITHOUT_CLASS:
        refusal = None
        if candidate.label or names_class(candidate.finding):
            refusal = Refusal("finding-studied", f"finding {candidate.finding or candidate.label}")
    return replace(candidate, label=None, other_finding=False, refusal=refusal)


def _read(collection: Collection, selection: SelectionConfig) -> Reading:
    path = collection.table or dicom.table_of_patients(collection)
    table = MetadataTable(path or collection.folder, lambda _: (None, None))
    if path:
        columns = finding_columns(read_header(path))
        for row in table.read((dicom.FILES,), FINDING_COLUMNS):
            modality = judge_table_modality(cell(row, "modality"))
            table.add(dicom.file_name(row), listed(row, dicom.stated_finding(row, columns), None, modality, selection))
    listed_files = ListedFiles.of(collection, path, table)
    folders = {file.rpartition("/")[0] for file in listed_files.files}
    known = {folder: (_finding_of_folder("", folder, class_folder.is_patient), "") for folder in folders}
    patients = class_folder.patients_below(known, listed_files.files, 1)
    return listed_files.reading(lambda file: _candidate(collection, file, listed_files.stated(file), patients))


def _candidate(collection: Collection, file: str, fields: Mapping[str, Any], patients: Mapping[str, str]) -> Candidate:
    folder = file.rpartition("/")[0]
    parts = PurePosixPath(folder).parts
    if any(plain(part) in class_folder.NO_IMAGES for part in parts):
        return collection.refused(file, "unknown-folder", f"folder {as_text(folder)} holds no images")
    patient = fields.get("patient") or dicom.patient_of_path(file) or patients.get(folder)
    outermost = collection.folder.name
    finding = fields.get("finding") or _finding_of_folder(outermost, folder, lambda n: n == patients.get(folder))
    return collection.candidate(file, **{**fields, "patient": patient, "finding": finding})


def _finding_of_folder(outermost: str, folder: str, is_patient: Callable[[str], bool]) -> str:
    """Return the innermost folder that names a class, else the innermost one that is no portion and no patient."""
    parts = [outermost, *PurePosixPath(folder).parts]
    names = [part for part in parts if not is_patient(part) and not class_folder.is_portion(part)]
    return as_text(next(filter(class_of, reversed(names)), names[-1] if names else outermost))


LAYOUT = Layout("outside", "a folder of images", lambda _: True, _read)

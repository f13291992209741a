"""NIH ChestX-ray14: a table and `images/`, or the published archives `images_001/images/` to `images_012/images/`.

`Data_Entry_2017.csv` is the first publication (ages like `058Y`), `Data_Entry_2017_v2020.csv` the corrected one, which
is preferred. An image has one or more of fourteen text-mined findings, separated by `|`.
"""

import re

from cxr_platform.config import SelectionConfig
from cxr_platform.intake.eligibility import judge_findings
from cxr_platform.intake.layouts.collection import Collection, Layout, Reading
from cxr_platform.intake.layouts.tables import Table, join_files, listed, read_rows

_TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
_REQUIRED = (("image index",), ("finding labels",), ("patient id",))
_IMAGE = re.compile(r"(?:images(?:_\d+)?/)*([^/]+)")
_STUDIED = {name.lower(): name for name in ("Edema", "Effusion", "Emphysema", "Fibrosis")}
"""§2.1.3. `Pneumonia` and `No Finding` are not taken from NIH: these classes come from Kermany (§2.1.2)."""


def _recognises(collection: Collection) -> bool:
    return any(name in collection.root_files for name in _TABLES)


def _read(collection: Collection, selection: SelectionConfig) -> Reading:
    name = next((t for t in _TABLES if t in collection.root_files), _TABLES[0])
    table = Table(collection.folder / name)
    for row in read_rows(table.path, _REQUIRED):
        findings = row["finding labels"]
        label, refusal = judge_findings(findings.split("|"), _STUDIED, selection)
        table.add(row["image index"], listed(row, findings, label, refusal, selection, _without_zeros))
    where = "in images/ or images_001/images/ to images_012/images/"
    return join_files(collection, table, key_of=_file_name, where=where, tables={name})


def _without_zeros(patient: str) -> str:
    return patient.lstrip("0")


def _file_name(file: str) -> str | None:
    """Names are unique over the twelve archives, so the folder does not matter."""
    match = _IMAGE.fullmatch(file)
    return match[1] if match else None


LAYOUT = Layout(
    "nih", f"{_TABLES[1]} or {_TABLES[0]} beside images/ or images_001/images/ … (NIH ChestX-ray14)", _recognises, _read
)

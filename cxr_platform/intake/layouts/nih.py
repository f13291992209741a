"""NIH ChestX-ray14: a table and `images/`, or the published archives `images_001/images/` to `images_012/images/`.

`Data_Entry_2017.csv` is the first publication (ages like `058Y`), `Data_Entry_2017_v2020.csv` the corrected one, which
is preferred. An image has one or more of fourteen text-mined findings, separated by `|`.
"""

import re
from collections.abc import Mapping, Sequence

from cxr_platform.config import SelectionConfig
from cxr_platform.intake.candidate import Refusal
from cxr_platform.intake.eligibility import judge_findings
from cxr_platform.intake.layouts.collection import Collection, Layout, Reading
from cxr_platform.intake.layouts.tables import MetadataTable, join_files, listed

_TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
_REQUIRED = (("imageindex",), ("findinglabels",), ("patientid",))
_NOT_READ = ("followup", "originalimagewidth", "height", "originalimagepixelspacingx", "y")
"""Columns of the published table that describe the file or the examination, not the image."""
_IMAGE = re.compile(r"(?:images(?:_\d+)?/)*[^/]+")
"""Names are unique over the twelve archives, so the folder does not matter."""
_STUDIED = {name.lower(): name for name in ("Edema", "Effusion", "Emphysema", "Fibrosis")}
"""§2.1.3. In the paper Pneumonia and Normal come from Kermany alone (§2.1.2)."""
_FURTHER: Mapping[str, str] = {"pneumonia": "Pneumonia", "no finding": "Normal"}
"""Taken with `selection.classes = "any"` from images with none of `_STUDIED`, which therefore keep their class."""


def _recognises(collection: Collection) -> bool:
    return any(name in collection.root_files for name in _TABLES)


def _read(collection: Collection, selection: SelectionConfig) -> Reading:
    name = next((t for t in _TABLES if t in collection.root_files), _TABLES[0])
    table = MetadataTable(collection.folder / name, lambda texts: _judge(texts, selection))
    for row in table.read(_REQUIRED, _NOT_READ):
        findings = row["findinglabels"]
        label, refusal = table.judge([findings])
        table.add(row["imageindex"], listed(row, findings, label, refusal, selection, _without_zeros))
    where = "in images/ or images_001/images/ to images_012/images/"
    return join_files(
        collection,
        table,
        where=where,
        tables={name},
        holds_images=lambda file: bool(_IMAGE.fullmatch(file)),
        unique=False,
    )


def _judge(texts: Sequence[str], selection: SelectionConfig) -> tuple[str | None, Refusal | None]:
    findings = "|".join(texts).split("|")
    label, refusal = judge_findings(findings, _STUDIED, selection)
    if refusal is None or refusal.reason != "finding-not-studied" or selection.classes == "paper":
        return label, refusal
    further = {name: c for name, c in _FURTHER.items() if c != "Normal" or selection.no_finding_is_normal}
    return judge_findings(findings, further, selection)


def _without_zeros(patient: str) -> str:
    return patient.lstrip("0")


LAYOUT = Layout(
    "nih", f"{_TABLES[1]} or {_TABLES[0]} beside images/ or images_001/images/ … (NIH ChestX-ray14)", _recognises, _read
)

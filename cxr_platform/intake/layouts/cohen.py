"""Cohen's covid-chestxray-dataset and the collections that copied its table.

- github.com/ieee8023/covid-chestxray-dataset: `metadata.csv`, images in the folder of the column `folder` (`images`; in
  `volumes` are CT volumes that the repository does not hold). Until mid-2020 a finding is `COVID-19` or
  `COVID-19, ARDS`, later a path (`Pneumonia/Viral/COVID-19`). The first tables have neither `modality` nor `folder` and
  write CT as a view.
- github.com/agchung/Actualmed-COVID-chestxray-dataset: `imagename` in place of `filename`; a finding may be empty.
- github.com/agchung/Figure1-COVID-chestxray-dataset: no column of file names. A file is called after its `patientid`,
  which ends in a letter where a patient has several images. Most views are not given.
"""

import re
from pathlib import PurePosixPath

from cxr_platform.config import SelectionConfig
from cxr_platform.intake.candidate import Refusal
from cxr_platform.intake.layouts.collection import Collection, Layout, Reading
from cxr_platform.intake.layouts.tables import Listed, Row, Table, first_of, give_rows, read_rows
from cxr_platform.intake.layouts.vocabulary import class_of, is_no_finding, judge_view, parse_age, parse_sex

_TABLE = "metadata.csv"
_NAMES = ("filename", "imagename")
_REQUIRED = (("finding",), (*_NAMES, "patientid"))


def _recognises(collection: Collection) -> bool:
    """A DICOM folder may have a metadata.csv as well; these collections hold no DICOM."""
    return _TABLE in collection.root_files and not any(f.lower().endswith(".dcm") for f in collection.files)


def _read(collection: Collection, selection: SelectionConfig) -> Reading:
    table, by_stem = Table(collection.folder / _TABLE), False
    for row in read_rows(table.path, _REQUIRED):
        by_stem = not any(name in row for name in _NAMES)
        name = row["patientid"] if by_stem else first_of(row, _NAMES)
        table.add(f"{row.get('folder') or 'images'}/{name}", _listed(row, selection, by_stem))
    key_of = _without_suffix if by_stem else str
    return give_rows(collection, table, key_of=key_of, where="in images/ or the column folder", tables={_TABLE})


def _listed(row: Row, selection: SelectionConfig, by_stem: bool) -> Listed:
    finding, view = row["finding"], row.get("view") or None
    label, refusal = _judge(finding, selection)
    patient = row.get("patientid", "")
    return Listed(
        label=label,
        finding=finding,
        # Only Figure 1 counts a patient's images by a letter: Cohen's 319a and 319b are two women of one publication.
        patient=(re.sub(r"(?<=\d)[a-z]$", "", patient) if by_stem else patient) or None,
        view=view,
        sex=parse_sex(row.get("sex", "")),
        age=parse_age(row.get("age", "")),
        refusal=_judge_modality(row) or refusal or judge_view(view, selection),
    )


def _judge(finding: str, selection: SelectionConfig) -> tuple[str | None, Refusal | None]:
    """§2.1.1: an image with COVID-19 among its findings is Covid19. Other pneumonias are not studied here (§2.1.2)."""
    if not finding:
        return None, Refusal("no-finding-given", "the finding is empty")
    if any(class_of(part) == "Covid19" for part in re.split(r"[,/|;]", finding)):
        return "Covid19", None
    if is_no_finding(finding) and selection.no_finding_is_normal:
        return "Normal", None
    return None, Refusal("finding-not-studied", f"finding {finding}")


def _judge_modality(row: Row) -> Refusal | None:
    """The first tables have no modality and say `CT` in the column of the view."""
    modality = row.get("modality") or ("CT" if row.get("view", "").upper() == "CT" else "X-ray")
    return None if re.fullmatch(r"x[- ]?ray|cr|dx", modality, re.IGNORECASE) else Refusal("modality", modality)


def _without_suffix(file: str) -> str:
    return str(PurePosixPath(file).with_suffix(""))


LAYOUT = Layout("cohen", "metadata.csv beside images/ (Cohen, Actualmed, Figure 1)", _recognises, _read)

"""Cohen's covid-chestxray-dataset and the collections that copied its table.

- github.com/ieee8023/covid-chestxray-dataset: `metadata.csv`, images in the folder of the column `folder` (`images`;
  `volumes` holds CT volumes that are not in the repository). Until mid-2020 a finding is `COVID-19` or
  `COVID-19, ARDS`, later a path (`Pneumonia/Viral/COVID-19`). The first tables have neither `modality` nor `folder` and
  give CT as a view.
- github.com/agchung/Actualmed-COVID-chestxray-dataset: `imagename` in place of `filename`; a finding may be empty.
- github.com/agchung/Figure1-COVID-chestxray-dataset: no column of file names. A file is named after its `patientid`,
  which ends in a letter if the patient has several images. Most views are not given.
"""

import re

from cxr_platform.config import SelectionConfig
from cxr_platform.intake.candidate import Refusal
from cxr_platform.intake.eligibility import judge_table_modality
from cxr_platform.intake.layouts.collection import Collection, Layout, Reading, is_dicom_name
from cxr_platform.intake.layouts.csv_rows import MetadataRow, cell
from cxr_platform.intake.layouts.tables import MetadataTable, join_files, listed
from cxr_platform.intake.vocabulary import NO_FINDING, class_of, plain

_TABLE = "metadata.csv"
_FILE = ("filename", "imagename")
_REQUIRED = (("finding",), (*_FILE, "patientid"))


def _recognises(collection: Collection) -> bool:
    """A folder of DICOM files may have a metadata.csv as well; these collections hold no DICOM."""
    return _TABLE in collection.root_files and not any(map(is_dicom_name, collection.files))


def _read(collection: Collection, selection: SelectionConfig) -> Reading:
    table = MetadataTable(collection.folder / _TABLE, lambda findings: _judge_finding(", ".join(findings), selection))
    by_patient = False
    for row in table.read(_REQUIRED, ("folder",)):
        by_patient = not any(name in row for name in _FILE)
        name = row["patientid"] if by_patient else next((row[name] for name in _FILE if row.get(name)), "")
        label, refusal = _judge_finding(row["finding"], selection)
        # Only Figure 1 counts a patient's images by a letter: Cohen's 319a and 319b are two women of one publication.
        patient_id = _without_letter if by_patient else str
        image = listed(row, row["finding"], label, _judge_modality(row) or refusal, selection, patient_id)
        table.add(f"{row.get('folder') or 'images'}/{name}", image)
    return join_files(collection, table, where="in images/ or the column folder", tables={_TABLE})


def _judge_finding(finding: str, selection: SelectionConfig) -> tuple[str | None, Refusal | None]:
    """§2.1.1: an image with COVID-19 among its findings is Covid19. In the paper no other pneumonia comes from here.

    With `selection.classes = "any"` an image is Pneumonia if its finding says so, alone or as part of a path.
    """
    if not finding:
        return None, Refusal("no-finding-given", "the finding is empty")
    named = {class_of(part) for part in re.split(r"[,/|;]", finding)}
    if "Covid19" in named:
        return "Covid19", None
    if "Pneumonia" in named and selection.classes == "any":
        return "Pneumonia", None
    if plain(finding) in NO_FINDING and selection.no_finding_is_normal:
        return "Normal", None
    return None, Refusal("finding-not-studied", f"finding {finding}")


def _judge_modality(row: MetadataRow) -> Refusal | None:
    """The first tables have no modality and give `CT` in the column of the view."""
    return judge_table_modality(cell(row, "modality") or ("CT" if cell(row, "view").upper() == "CT" else ""))


def _without_letter(patient: str) -> str:
    return re.sub(r"(?<=\d)[a-z]$", "", patient)


LAYOUT = Layout("cohen", "metadata.csv beside images/ (Cohen, Actualmed, Figure 1)", _recognises, _read)

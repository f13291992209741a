"""The platform's own synthetic images: `PHANTOMS.toml`, which marks them as such, `images.csv`, and a folder of images."""

from cxr_platform.config import SelectionConfig
from cxr_platform.errors import SourceError
from cxr_platform.intake.candidate import Refusal
from cxr_platform.intake.layouts.collection import Collection, Layout, Reading
from cxr_platform.intake.layouts.tables import Listed, Row, Table, give_rows, read_rows
from cxr_platform.intake.layouts.vocabulary import judge_view, parse_age, parse_sex
from cxr_platform.labels import CLASSES

MARK = "PHANTOMS.toml"
"""The file whose presence says that every image of the folder is drawn, not taken."""
TABLE = "images.csv"
IMAGES_FOLDER = "films"
"""Part of every source_path, and so of every image_id: another name would shuffle every phantom study anew."""


def _recognises(collection: Collection) -> bool:
    return MARK in collection.root_files


def _read(collection: Collection, selection: SelectionConfig) -> Reading:
    if MARK not in collection.root_files:
        raise SourceError(f"Expected {MARK} in {collection.folder}.", advice="Draw the phantoms again.")
    table = Table(collection.folder / TABLE)
    for row in read_rows(table.path, (("filename",), ("patient_id",), ("label",))):
        table.add(f"{IMAGES_FOLDER}/{row['filename']}", _listed(row, selection))
    return give_rows(collection, table, key_of=str, where=f"in {IMAGES_FOLDER}/", tables={MARK, TABLE})


def _listed(row: Row, selection: SelectionConfig) -> Listed:
    label, view = row["label"], row.get("view") or None
    known = label in CLASSES
    refusal = None if known else Refusal("finding-not-studied", f"finding {label}")
    return Listed(
        label=label if known else None,
        finding=label,
        patient=row["patient_id"] or None,
        view=view,
        sex=parse_sex(row.get("sex", "")),
        age=parse_age(row.get("age", "")),
        refusal=refusal or judge_view(view, selection),
    )


LAYOUT = Layout(
    "phantoms", f"{MARK}, {TABLE} and {IMAGES_FOLDER}/ (synthetic images)", _recognises, _read, synthetic=True
)

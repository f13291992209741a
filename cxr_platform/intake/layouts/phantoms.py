"""The platform's own synthetic images: `PHANTOMS.toml`, which marks them, `images.csv`, and a folder of images."""

from collections.abc import Sequence

from cxr_platform.config import SelectionConfig
from cxr_platform.errors import SourceError
from cxr_platform.intake.candidate import Refusal
from cxr_platform.intake.layouts.collection import Collection, Layout, Reading
from cxr_platform.intake.layouts.tables import MetadataTable, join_files, listed
from cxr_platform.intake.vocabulary import column_key
from cxr_platform.labels import CLASSES

MARKER = "PHANTOMS.toml"
"""The file that marks every image of its folder as drawn by a program."""
TABLE = "images.csv"
COLUMNS = ("filename", "patient_id", "label", "view", "sex", "age")
IMAGES_FOLDER = "images"


def _recognises(collection: Collection) -> bool:
    return MARKER in collection.root_files


def _read(collection: Collection, selection: SelectionConfig) -> Reading:
    if MARKER not in collection.root_files:
        raise SourceError(f"Expected {MARKER} in {collection.folder}.", advice="Draw the phantoms again.")
    table = MetadataTable(collection.folder / TABLE, _judge)
    for row in table.read([(column_key(name),) for name in COLUMNS[:3]]):
        finding = row["label"]
        image = listed(row, finding, *_judge([finding]), selection)
        table.add(f"{IMAGES_FOLDER}/{row['filename']}", image)
    return join_files(collection, table, where=f"in {IMAGES_FOLDER}/", tables={MARKER, TABLE})


def _judge(findings: Sequence[str]) -> tuple[str | None, Refusal | None]:
    finding = ", ".join(findings)
    return (finding, None) if finding in CLASSES else (None, Refusal("finding-not-studied", f"finding {finding}"))


LAYOUT = Layout(
    "phantoms", f"{MARKER}, {TABLE} and {IMAGES_FOLDER}/ (synthetic images)", _recognises, _read, synthetic=True
)

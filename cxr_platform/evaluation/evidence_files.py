"""What was computed from a study's models and images for its report: the files of `runs/NAME/evidence/`.

`evidence.json` says for each part under which key it was made, or why it could not be. Written by the room `evidence`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.errors import StudyError

if TYPE_CHECKING:
    import pandas as pd

FOLDER, INDEX_FILE = "evidence", "evidence.json"
FOR_OTHERS = ("features",)  # large, and for the users of a study: the report reads what was made of them
AGAIN = "Remove the folder evidence of the study and write the report again."
STALE = "It was computed for other predictions than those of now: cxr report --manifest FOLDER computes it again."

FILES: Mapping[str, tuple[str, ...]] = {
    # Out-of-fold probabilities by what the file says of an image (probe "metadata"), each image once
    "metadata_probe": ("probe", "image_id", "fold", *PROBABILITY_COLUMNS),
    # The same of the pixels' probes: whole-image, without-lungs, lungs-only
    "pixel_probes": ("probe", "image_id", "fold", *PROBABILITY_COLUMNS),
    # The source as told from metadata or pixels, out of fold: one row an image and probe; empty with one source
    "metadata_source_probe": ("probe", "image_id", "fold", "source", "predicted"),
    "pixel_source_probes": ("probe", "image_id", "fold", "source", "predicted"),
    # Each image of an external source by the model of each strategy × fold
    "external": ("image_id", "group_id", "source", "label", "strategy", "fold", *PROBABILITY_COLUMNS),
    # Leave-one-source-out: images of the class `label` of `source`, by a model trained without that source, which saw
    # `trained_on` images of the class
    "left_out": ("image_id", "group_id", "source", "label", "trained_on", *PROBABILITY_COLUMNS),
    # Share of a heatmap (of the predicted class, by the out-of-fold model) inside the lung field, beside the field's
    # share of the image
    "lung_share": ("image_id", "label", "predicted", "strategy", "fold", "share", "field_share"),
    # Heatmaps 0..1, flattened row by row, side × side; of `target`, by the out-of-fold model
    "heatmaps": ("image_id", "strategy", "fold", "target", "side", "heatmap"),
    # The features that separate a class best, two a class and fold: chosen on one half of the fold's patients, measured
    # on the other; `source` is the one that the feature is highest for, with its area under the curve
    "atlas": ("fold", "feature", "label", "auc_chosen", "auc_held", "matched_folds", "folds", "source", "auc_source"),
    # The images that such a feature answers most strongly, with heatmaps of the feature
    "atlas_images": ("fold", "feature", "rank", "image_id", "value", "side", "heatmap"),
    # The winner's penultimate features of every image, by the out-of-fold model: float16
    "features": ("image_id", "group_id", "source", "label", "fold", "features"),
}
"""Part → the columns that its Parquet file has at least."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """The parts that are there, as data frames, and for the others the reason."""

    parts: "Mapping[str, pd.DataFrame]" = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)

    def why_absent(self, part: str) -> str:
        """Why `part` is not there, as a sentence."""
        return self.absent.get(part, "It was not computed: cxr report --manifest FOLDER computes it.")


def read_evidence(study_folder: Path) -> Evidence:
    """Read `study_folder`/evidence; empty where the folder is not there.

    Raises `StudyError` for a file that is absent, unreadable or lacks a column although the index promises it.
    """
    folder = study_folder / FOLDER
    if not (folder / INDEX_FILE).is_file():
        return Evidence()
    index, now = _read_index(folder / INDEX_FILE), predictions_hash(study_folder)
    index = {name: entry for name, entry in index.items() if name not in FOR_OTHERS}
    present = [name for name, entry in index.items() if entry.get("key") and entry.get("predictions") == now]
    absent = {name: entry["absent"] for name, entry in index.items() if entry.get("absent")}
    absent |= {name: STALE for name, entry in index.items() if entry.get("key") and entry.get("predictions") != now}
    return Evidence({name: _read_part(folder / f"{name}.parquet", FILES[name]) for name in present}, absent)


def predictions_hash(study_folder: Path) -> str:
    """SHA-256 of the pooled predictions, by which evidence tells whether it belongs to them."""
    try:
        return hashlib.sha256((study_folder / "predictions.parquet").read_bytes()).hexdigest()
    except OSError:  # `load_predictions` is the one to complain
        return ""


def _read_index(path: Path) -> dict[str, Any]:
    try:
        parts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["parts"]
    except (OSError, ValueError, KeyError) as error:
        raise StudyError(f"Expected the index of evidence at {path}.", received=error, advice=AGAIN) from error
    return {name: entry for name, entry in parts.items() if name in FILES}


def _read_part(path: Path, columns: tuple[str, ...]) -> "pd.DataFrame":
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        frame: pd.DataFrame = pq.read_table(path).to_pandas()
    except (OSError, pa.ArrowException) as error:
        raise StudyError(f"Expected a Parquet file at {path}.", received=error, advice=AGAIN) from error
    missing = [column for column in columns if column not in frame]
    if missing:
        raise StudyError(f"{path}: expected the columns {', '.join(missing)}.", advice=AGAIN)
    return frame

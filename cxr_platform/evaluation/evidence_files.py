"""Files of `runs/NAME/evidence/`: what the package `evidence` computes from a study's models and images for its report.

Each part is a Parquet file; that of the contrast images is beside predictions.parquet, which it continues. The index
`evidence.json` has for each part either `key`, a hash of predictions, manifest, winner and version of the analysis, and
`predictions`, the hash of the predictions alone; or `absent`, the reason why the part is missing.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cxr_platform.domain.predictions import CONTRAST_SCHEMA, KEY_COLUMNS, PROBABILITY_COLUMNS
from cxr_platform.errors import StudyError

FOLDER, INDEX_FILE = "evidence", "evidence.json"
NOT_FOR_REPORT = ("features",)  # large, and written for users of the study
RECOMPUTE = "Remove the folder evidence of the study and write the report again."
STALE = "It was computed for other predictions than the present ones: cxr report --manifest FOLDER computes it again."

FILES: Mapping[str, tuple[str, ...]] = {
    # Out-of-fold probabilities of a probe that sees file metadata only, each image once
    "metadata_probe": ("probe", "image_id", "fold", *PROBABILITY_COLUMNS),
    # The same for the probes that see pixels: whole-image, without-lungs, lungs-only and, as a
    # control, without-outline. `lungs_found` is False where the segmenter found none, and the outline took their place
    "pixel_probes": ("probe", "image_id", "fold", *PROBABILITY_COLUMNS),
    # Out-of-fold prediction of the source (its origin), not the class: one row per image and probe; no rows with one
    "metadata_source_probe": ("probe", "image_id", "fold", "source", "predicted"),
    "pixel_source_probes": ("probe", "image_id", "fold", "source", "predicted"),
    # Each image of an external source by the model of each strategy × fold
    "external": (*KEY_COLUMNS, *PROBABILITY_COLUMNS),
    # Each image of an outside source, likewise; `label` is null, `finding` in the words of its collection
    "outside": (*KEY_COLUMNS, "finding", *PROBABILITY_COLUMNS),
    # Each contrast image by the model of each strategy that has its fold held out
    "contrast": tuple(CONTRAST_SCHEMA.names),
    # Leave-one-source-out: images of the class `label` of `source` (an origin), by a model trained without that origin
    # on `trained_on` images of the class
    "left_out": ("image_id", "group_id", "source", "label", "trained_on", *PROBABILITY_COLUMNS),
    # All images by models trained without the origin `left_out`: one for each `part` of the folds, which was trained on
    # the other parts and scores this one and the images of the origin left out
    "hospitals": ("left_out", "part", "image_id", "group_id", "origin", "label", *PROBABILITY_COLUMNS),
    # The same by heads of `robust`, if the study has that strategy
    "hospitals_robust": ("left_out", "part", "image_id", "group_id", "origin", "label", *PROBABILITY_COLUMNS),
    # Share of a heatmap (of the predicted class, by the out-of-fold model) that is inside the lungs, and the share of
    # the image that they cover. `lungs_found` as above
    "lung_share": ("image_id", "label", "predicted", "strategy", "fold", "share", "field_share"),
    # Heatmaps of the class `target` by the out-of-fold model: `side` × `side` values from 0 to 1, row by row
    "heatmaps": ("image_id", "strategy", "fold", "target", "side", "heatmap"),
    # A sample of images, up to 15 per class, by the winner's out-of-fold networks: unchanged (`none`, 0) and changed by
    # each kind of `corruption` in each `strength`
    "corruptions": ("corruption", "strength", "image_id", "label", "strategy", "fold", *PROBABILITY_COLUMNS),
    # A sample of images, up to 7 per class, whose heatmap is not empty: the probability of the predicted class after a
    # `share` of the image was removed (`mode` deletion) or inserted, in the `order` of the heatmap or a random one
    "faithfulness": ("image_id", "label", "strategy", "fold", "mode", "order", "share", "probability"),
    # Spearman's correlation of the same images' heatmaps with those after the weights in `randomised` were shuffled, or
    # with the map of another image; NaN where one of the two is empty, or no other image has the class
    "randomised": ("image_id", "label", "strategy", "fold", "randomised", "similarity"),
    # The two features per class and fold that separate the class best: chosen on one half of the fold's patients
    # (`auc_chosen`), measured on the other (`auc_held`). `matched_folds` of the `folds` networks have a like one.
    # `source` is the one that the feature separates best, with `auc_source`
    "atlas": ("fold", "feature", "label", "auc_chosen", "auc_held", "matched_folds", "folds", "source", "auc_source"),
    # The images with the highest values of such a feature, with heatmaps of the feature
    "atlas_images": ("fold", "feature", "rank", "image_id", "value", "side", "heatmap"),
    # The winner's penultimate features of every image, by the out-of-fold model: float16
    "features": ("image_id", "group_id", "source", "label", "fold", "features"),
}
"""Part → the columns that its Parquet file has at least."""


CONTRAST_FILE = "contrast-predictions.parquet"


def part_file(study_folder: Path, part: str) -> Path:
    """Return the Parquet file of a part."""
    return study_folder / (CONTRAST_FILE if part == "contrast" else f"{FOLDER}/{part}.parquet")


@dataclass(frozen=True, eq=False)
class Evidence:
    """The available parts as data frames, and the reasons why others are absent, both by part."""

    parts: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)

    def why_absent(self, part: str) -> str:
        """Return the reason for the absence of `part`, as a sentence."""
        return self.absent.get(part, "It was not computed: cxr report --manifest FOLDER computes it.")


def read_evidence(study_folder: Path) -> Evidence:
    """Read `study_folder`/evidence; empty if it has no index. A part of other predictions counts as absent.

    Raise `StudyError` if the index is unreadable, or if a file that it lists is absent, unreadable or lacks a column.
    """
    folder = study_folder / FOLDER
    if not (folder / INDEX_FILE).is_file():
        return Evidence()
    present_hash = predictions_hash(study_folder)
    parts: dict[str, pd.DataFrame] = {}
    absent: dict[str, str] = {}
    for name, entry in _read_index(folder / INDEX_FILE).items():
        if name not in FILES or name in NOT_FOR_REPORT:
            continue
        if entry.get("absent"):
            absent[name] = entry["absent"]
        elif entry.get("key") and entry.get("predictions") != present_hash:
            absent[name] = STALE
        elif entry.get("key"):
            parts[name] = _read_part(part_file(study_folder, name), FILES[name])
    return Evidence(parts, absent)


def predictions_hash(study_folder: Path) -> str:
    """Return the SHA-256 of the study's predictions.parquet; empty if the file cannot be read."""
    try:
        return hashlib.sha256((study_folder / "predictions.parquet").read_bytes()).hexdigest()
    except OSError:  # `load_predictions` raises the error
        return ""


def _read_index(path: Path) -> dict[str, Any]:
    try:
        parts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["parts"]
    except (OSError, ValueError, KeyError) as error:
        raise StudyError(f"Expected the index of evidence at {path}.", received=error, advice=RECOMPUTE) from error
    return parts


def _read_part(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    try:
        frame: pd.DataFrame = pq.read_table(path).to_pandas()
    except (OSError, pa.ArrowException) as error:
        raise StudyError(f"Expected a Parquet file at {path}.", received=error, advice=RECOMPUTE) from error
    missing = [column for column in columns if column not in frame]
    if missing:
        raise StudyError(f"{path}: expected the columns {', '.join(missing)}.", advice=RECOMPUTE)
    return frame

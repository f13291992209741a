"""The analyses behind the report of a study, and storage of their tables beside the study.

A table is computed again only if the predictions, the manifest, the winner or the version of its analysis change.
"""

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cxr_platform.domain.predictions import SOURCE_PATH
from cxr_platform.errors import NotPossible, WeightsError
from cxr_platform.evaluation.evidence_files import FOLDER, INDEX_FILE, part_file, predictions_hash
from cxr_platform.evidence.contrast_images import contrast_predictions
from cxr_platform.evidence.corruptions import corrupted_predictions
from cxr_platform.evidence.explanations import explanations
from cxr_platform.evidence.external_images import external_predictions, outside_predictions
from cxr_platform.evidence.faithfulness import faithfulness
from cxr_platform.evidence.feature_atlas import feature_atlas
from cxr_platform.evidence.left_out_origins import (
    hospital_predictions,
    left_out_predictions,
    robust_hospital_predictions,
)
from cxr_platform.evidence.open_study import OpenStudy
from cxr_platform.evidence.shortcut_probes import metadata_probes, pixel_probes
from cxr_platform.storage.files import write_atomically, write_errors, write_json


@dataclass(frozen=True)
class Analysis:
    """`compute` returns the `tables` by name. Raise `version` when it computes something else than before."""

    tables: tuple[str, ...]
    compute: Callable[[OpenStudy], Mapping[str, pa.Table]]
    version: int = 1


ANALYSES = (
    Analysis(("metadata_probe", "metadata_source_probe"), metadata_probes),
    Analysis(("pixel_probes", "pixel_source_probes"), pixel_probes, version=2),
    Analysis(("left_out",), left_out_predictions),
    Analysis(("hospitals",), hospital_predictions, version=2),
    Analysis(("hospitals_robust",), robust_hospital_predictions),
    Analysis(("external",), external_predictions),
    Analysis(("outside",), outside_predictions),
    Analysis(("contrast",), contrast_predictions),
    Analysis(("lung_share", "heatmaps"), explanations, version=2),
    Analysis(("corruptions",), corrupted_predictions),
    Analysis(("faithfulness", "randomised"), faithfulness),
    Analysis(("features", "atlas", "atlas_images"), feature_atlas),
)
"""In this order the features of whole images, which three of them need, are computed once."""


def update_evidence(opened: OpenStudy, analyses: Sequence[Analysis]) -> Path:
    """Compute the tables that are missing or outdated and return their folder.

    An analysis that is not possible is recorded with its reason, and tried again the next time. Raise `StorageError` if
    the folder cannot be written.
    """
    folder, predictions = opened.folder.root / FOLDER, predictions_hash(opened.folder.root)
    index = _read_index(folder)
    for analysis in analyses:
        origins = sorted(opened.study.manifest.origins.items())
        made_of = (predictions, opened.manifest.content_hash, opened.winner, *origins)
        key = hashlib.sha256(repr((made_of, analysis.tables, analysis.version)).encode()).hexdigest()
        if all(_is_current(opened.folder.root, index, name, key) for name in analysis.tables):
            continue
        index |= _compute(opened, analysis, {"key": key, "predictions": predictions})
        write_json(folder / INDEX_FILE, {"schema_version": 1, "parts": index})
    return folder


def _is_current(study: Path, index: Mapping[str, Any], name: str, key: str) -> bool:
    if index.get(name, {}).get("key") != key:
        return False
    try:
        pq.read_metadata(part_file(study, name))  # written last: a truncated file has none
    except (OSError, pa.ArrowException):
        return False
    return True


def _compute(opened: OpenStudy, analysis: Analysis, entry: Mapping[str, str]) -> dict[str, Any]:
    """Store the tables of `analysis` and return their entries of the index."""
    files = {name: part_file(opened.folder.root, name) for name in analysis.tables}
    try:
        tables = analysis.compute(opened)
    except (NotPossible, WeightsError) as reason:
        for file in files.values():
            file.unlink(missing_ok=True)
        return {name: {"absent": str(reason)} for name in analysis.tables}
    for name, file in files.items():
        content = io.BytesIO()
        pq.write_table(_with_files(tables[name], opened), content, compression="zstd")
        with write_errors(file.parent):
            file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, content.getvalue())
    return {name: dict(entry) for name in analysis.tables}


def _with_files(table: pa.Table, opened: OpenStudy) -> pa.Table:
    """Return a table of images with their source_path, so that a reader needs no manifest to find the files."""
    if "image_id" not in table.column_names or SOURCE_PATH in table.column_names:
        return table
    images = opened.manifest.table(["image_id", SOURCE_PATH]).to_pydict()
    path_of = dict(zip(images["image_id"], images[SOURCE_PATH], strict=True))
    paths = pa.array([path_of.get(image) for image in table["image_id"].to_pylist()], pa.string())
    return table.add_column(table.schema.get_field_index("image_id") + 1, SOURCE_PATH, paths)


def _read_index(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))["parts"])
    except (OSError, ValueError, KeyError, TypeError):  # absent or damaged: everything is computed again
        return {}

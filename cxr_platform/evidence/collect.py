"""Every part of a study's evidence, computed once and kept beside the study until something it came from changes."""

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cxr_platform.errors import NotPossible, WeightsError
from cxr_platform.evaluation.evidence_files import FOLDER, INDEX_FILE, predictions_hash
from cxr_platform.evidence.workspace import Workspace
from cxr_platform.storage.files import write_atomically, write_errors, write_json


@dataclass(frozen=True)
class Part:
    """`compute` gives the tables of `names`; `version` goes up when its recipe changes, so that stored results of an
    older one are computed again."""

    names: tuple[str, ...]
    compute: Callable[[Workspace], Mapping[str, pa.Table]]
    version: int = 1


def collect(workspace: Workspace, parts: Sequence[Part]) -> Path:
    """Compute what is missing or out of date and return the folder.

    What cannot be computed is noted with its reason. Raises `StorageError` where the folder cannot be written.
    """
    folder, predictions = workspace.folder.root / FOLDER, predictions_hash(workspace.folder.root)
    index = _read_index(folder)
    for part in parts:
        key = _key(workspace, part, predictions)
        if all(_stands(folder, index, name, key) for name in part.names):
            continue
        entries = _computed(workspace, part, folder, {"key": key, "predictions": predictions})
        index = {**index, **entries}
        _write_index(folder, index)
    return folder


def _stands(folder: Path, index: Mapping[str, Any], name: str, key: str) -> bool:
    """Whether the stored part was made from the same things; one that was not possible is tried again each time."""
    return bool(index.get(name, {}).get("key") == key) and _is_whole(folder / f"{name}.parquet")


def _is_whole(file: Path) -> bool:
    """Whether there is such a Parquet file with its end, which is written last."""
    try:
        pq.read_metadata(file)
    except (OSError, pa.ArrowException):
        return False
    return True


def _computed(workspace: Workspace, part: Part, folder: Path, made_of: Mapping[str, str]) -> dict[str, Any]:
    try:
        tables = part.compute(workspace)
    except (NotPossible, WeightsError) as reason:
        for name in part.names:
            (folder / f"{name}.parquet").unlink(missing_ok=True)
        return {name: {"absent": str(reason)} for name in part.names}
    for name in part.names:
        _write_table(folder, name, tables[name])
    return {name: dict(made_of) for name in part.names}


def _key(workspace: Workspace, part: Part, predictions: str) -> str:
    made_of = (predictions, workspace.manifest.content_hash, workspace.winner)
    return hashlib.sha256(repr((made_of, part.names, part.version)).encode()).hexdigest()


def _read_index(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))["parts"])
    except (OSError, ValueError, KeyError, TypeError):  # none, or a damaged one: everything is computed again
        return {}


def _write_table(folder: Path, name: str, table: pa.Table) -> None:
    content = io.BytesIO()
    pq.write_table(table, content, compression="zstd")
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"{name}.parquet", content.getvalue())


def _write_index(folder: Path, index: Mapping[str, Any]) -> None:
    write_json(folder / INDEX_FILE, {"schema_version": 1, "parts": dict(index)})

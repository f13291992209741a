"""A finished study as it is logged: its record, its results, its report, its trials."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cxr_platform.domain.study import StudyRecord, read_study
from cxr_platform.errors import StudyError


@dataclass(frozen=True)
class Finished:
    """`results` is results.json; `trials` are those that were kept: trial.json each, its curves under `history`."""

    folder: Path
    study: StudyRecord
    results: Mapping[str, Any]
    trials: tuple[Mapping[str, Any], ...]

    @cached_property
    def predictions_sha256(self) -> str:
        """By which the study is known, wherever it lies."""
        return _sha256(self.folder / "predictions.parquet")

    @cached_property
    def results_sha256(self) -> str:
        """By which another report of the same predictions is told."""
        return _sha256(self.folder / "results.json")


def read_finished(folder: Path) -> Finished:
    """Read the study in `folder`; raises `StudyError` for one without report and for a trial that is not whole."""
    study, results = read_study(folder), _results(folder)
    return Finished(folder, study, results, tuple(_trial(place) for place in _trial_folders(folder, study)))


def _results(folder: Path) -> dict[str, Any]:
    try:
        tree: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        (folder / "report" / "index.html").stat()
    except (OSError, ValueError) as error:
        raise StudyError(
            f"Expected a finished study with its report in {folder}.",
            received=error,
            advice=f"Write it first: cxr report --study {folder}.",
        ) from error
    return tree


def _trial_folders(folder: Path, study: StudyRecord) -> list[Path]:
    """Folders of the trials behind the pooled predictions; fewer where they were not kept."""
    places = (folder / "trials" / s / f"fold-{k}" for s in study.strategies for k in range(study.folds))
    return [place for place in places if (place / "trial.json").is_file()]


def _trial(folder: Path) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        facts = json.loads((folder / "trial.json").read_text(encoding="utf-8"))
        return {**facts, "history": pq.read_table(folder / "history.parquet").to_pylist()}
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StudyError(
            f"Expected a finished trial in {folder}.",
            received=error,
            advice="Remove this folder and run the same cross_validate command again.",
        ) from error


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

"""A finished study as it is logged: its record, its results, its report, its trials."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cxr_platform.domain.study import StudyRecord, TrialKey, TrialRecord, read_study, read_trials
from cxr_platform.errors import StudyError


@dataclass(frozen=True)
class StoredTrial:
    """A finished trial and the rows of its history.parquet."""

    record: TrialRecord
    history: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Finished:
    """A finished study. `results` is results.json, `trials` are those whose folders were kept."""

    folder: Path
    study: StudyRecord
    results: Mapping[str, Any]
    trials: tuple[StoredTrial, ...]

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
    records = read_trials(folder, study.trials())
    return Finished(folder, study, results, tuple(_trial(folder, key, record) for key, record in records.items()))


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


def _trial(folder: Path, key: TrialKey, record: TrialRecord | None) -> StoredTrial:
    import pyarrow as pa
    import pyarrow.parquet as pq

    place = folder / "trials" / key.strategy / f"fold-{key.fold}"
    advice = "Remove this folder and run the same cross_validate command again."
    if record is None:
        raise StudyError(f"Expected a finished trial in {place}.", received="a damaged trial.json", advice=advice)
    try:
        return StoredTrial(record, pq.read_table(place / "history.parquet").to_pylist())
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StudyError(f"Expected a finished trial in {place}.", received=error, advice=advice) from error


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

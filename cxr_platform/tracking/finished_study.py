"""A finished study and what is logged of it: parameters, tags and metrics by name, without MLflow.

The study has its profile as parameters, its identity as tags and the numbers of results.json as metrics. A trial has
its training curves, with the epoch as step.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cxr_platform.domain.study import StudyRecord, TrialKey, TrialRecord, read_study
from cxr_platform.errors import StudyError
from cxr_platform.evaluation.formatting import flatten
from cxr_platform.storage.trial_files import finished_folder, read_trials

PREDICTIONS_TAG, RESULTS_TAG = "cxr.predictions_sha256", "cxr.results_sha256"
NOTE_TAG = "mlflow.note.content"  # MLflow's description of a run
RESULT_PARTS = ("strategies", "findings", "sections")
"""Keys of results.json whose numbers are logged."""
EXCLUDED = "paper"
"""Key of results.json for numbers printed in the paper, which are no results of the study."""
CURVES = {"loss": ("loss", 1.0), "accuracy": ("accuracy_percent", 100.0), "learning_rate": ("learning_rate", 1.0)}
"""Column of history.parquet → its name in MLflow, and the factor that converts it to that unit."""

LoggedMetric = tuple[str, float, int]
"""Name, value, step."""


@dataclass(frozen=True)
class FinishedTrial:
    """A finished trial and the rows of its history.parquet."""

    record: TrialRecord
    history: Sequence[Mapping[str, Any]]

    def params(self) -> dict[str, str]:
        """Return strategy, fold, seed, backend and node."""
        return {name: str(getattr(self.record, name)) for name in ("strategy", "fold", "seed", "backend", "node")}

    def metrics(self) -> list[LoggedMetric]:
        """Return test accuracy, seconds, and the training curves."""
        record, metrics = self.record, list[LoggedMetric]()
        if record.accuracy is not None:
            metrics.append(("held_out/accuracy_percent", 100.0 * record.accuracy, 0))
        metrics += [(name, value, 0) for name, value in _numbers(record.seconds.model_dump(), "seconds")]
        for row in self.history:
            metrics += [(f"training/{name}", factor * row[c], row["epoch"]) for c, (name, factor) in CURVES.items()]
        return metrics


@dataclass(frozen=True)
class FinishedStudy:
    """A finished study. `results` is results.json, `trials` are those whose folders were kept."""

    folder: Path
    study: StudyRecord
    results: Mapping[str, Any]
    trials: tuple[FinishedTrial, ...]

    @cached_property
    def predictions_sha256(self) -> str:
        """SHA-256 of the predictions, which identifies the study independently of its folder."""
        return _sha256(self.folder / "predictions.parquet")

    @cached_property
    def results_sha256(self) -> str:
        """SHA-256 of results.json, which changes with the report."""
        return _sha256(self.folder / "results.json")

    def params(self) -> dict[str, str]:
        """Return the profile, with the names by which its settings are overridden."""
        return {".".join(map(_mlflow_name, path)): str(value) for path, value in flatten(self.study.profile.to_dict())}

    def tags(self) -> dict[str, str]:
        """Return the identity of the study, its winner, and a note."""
        study, winner = self.study, self.results["winner"]
        facts = {
            "study": study.name,
            "protocol": study.protocol,
            "folds": study.folds,
            "synthetic": study.manifest.synthetic,
            "manifest": study.manifest.path,
            "manifest_sha256": study.manifest.content_hash,
            "started": study.started.isoformat(),
            "winner": winner["winner"],
            **{f"version.{name}": version for name, version in study.versions.items()},
        }
        return {
            PREDICTIONS_TAG: self.predictions_sha256,
            RESULTS_TAG: self.results_sha256,
            NOTE_TAG: f"{winner['line']} For research, not for diagnosis.",
            **{f"cxr.{name}": str(value) for name, value in facts.items()},
        }

    def metrics(self) -> list[LoggedMetric]:
        """Return every number of results.json except those printed in the paper."""
        return [(name, value, 0) for part in RESULT_PARTS for name, value in _numbers(self.results.get(part, {}), part)]


def read_finished_study(folder: Path) -> FinishedStudy:
    """Read the study in `folder`; raise `StudyError` if it has no report or a damaged trial."""
    study = read_study(folder)
    if study.protocol == "origins":
        raise StudyError(
            "Expected a study that has a report of its own, with the protocol grouped or paper.",
            received=f"{folder}, which leaves origins out",
            advice="Log the study whose report shows it.",
        )
    try:
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        (folder / "report" / "index.html").stat()
    except (OSError, ValueError) as error:
        raise StudyError(
            f"Expected a finished study with its report in {folder}.",
            received=error,
            advice=f"Write it first: cxr report --study {folder}.",
        ) from error
    records = read_trials(folder, study.trials())
    return FinishedStudy(folder, study, results, tuple(_trial(folder, key, record) for key, record in records.items()))


def _trial(folder: Path, key: TrialKey, record: TrialRecord | None) -> FinishedTrial:
    place = finished_folder(folder, key)
    advice = "Remove this folder and run the same cross_validate command again."
    if record is None:
        raise StudyError(f"Expected a finished trial in {place}.", received="a damaged trial.json", advice=advice)
    try:
        return FinishedTrial(record, pq.read_table(place / "history.parquet").to_pylist())
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StudyError(f"Expected a finished trial in {place}.", received=error, advice=advice) from error


def _numbers(tree: Mapping[str, Any], above: str) -> Iterator[tuple[str, float]]:
    """Yield every number with its path, without undefined values, lists and booleans."""
    for path, value in flatten(tree):
        if isinstance(value, int | float) and not isinstance(value, bool) and EXCLUDED not in path[:-1]:
            yield "/".join(map(_mlflow_name, (above, *path))), float(value)


def _mlflow_name(key: str) -> str:
    """Return `key` with only the characters that MLflow allows in a name."""
    return re.sub(r"[^A-Za-z0-9_. -]", "_", key).strip(".") or "_"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

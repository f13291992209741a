"""What is logged of a study and of a trial, under which names: parameters, tags, metrics. Nothing of MLflow here.

The study has its profile as parameters, what identifies it as tags and the figures of results.json as metrics; a trial
has its training curves, a step an epoch.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from cxr_platform.evaluation.formatting import flatten
from cxr_platform.tracking.finished import Finished, StoredTrial

PREDICTIONS_TAG, RESULTS_TAG = "cxr.predictions_sha256", "cxr.results_sha256"
NOTE_TAG = "mlflow.note.content"  # by which MLflow's page describes a run
FIGURES = ("strategies", "findings", "sections")  # of results.json
LEFT_OUT = "paper"  # printed figures are no result of a study
TRIAL_FACTS = ("strategy", "fold", "seed", "backend", "node")
CURVES = {"loss": ("loss", 1.0), "accuracy": ("accuracy_percent", 100.0), "learning_rate": ("learning_rate", 1.0)}
"""Column of history.parquet → its name in MLflow and the factor that brings it to its unit."""

Metric = tuple[str, float, int]
"""Name, value, step."""


def study_params(finished: Finished) -> dict[str, str]:
    """The profile, under the names by which its settings are overridden."""
    return {".".join(map(_allowed, path)): str(value) for path, value in flatten(finished.study.profile.to_dict())}


def study_tags(finished: Finished) -> dict[str, str]:
    """What identifies the study, what won, and what it is not for."""
    study, winner = finished.study, finished.results["winner"]
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
        PREDICTIONS_TAG: finished.predictions_sha256,
        RESULTS_TAG: finished.results_sha256,
        NOTE_TAG: f"{winner['line']} For research, not for diagnosis.",
        **{f"cxr.{name}": str(value) for name, value in facts.items()},
    }


def study_metrics(finished: Finished) -> list[Metric]:
    """Every figure of results.json but the paper's own."""
    return [(name, value, 0) for part in FIGURES for name, value in _numbers(finished.results.get(part, {}), part)]


def trial_params(trial: StoredTrial) -> dict[str, str]:
    """Return which trial it is, and where it ran."""
    return {name: str(getattr(trial.record, name)) for name in TRIAL_FACTS}


def trial_metrics(trial: StoredTrial) -> list[Metric]:
    """Return held-out accuracy, seconds, and the training curves."""
    record, metrics = trial.record, list[Metric]()
    if record.accuracy is not None:
        metrics.append(("held_out/accuracy_percent", 100.0 * record.accuracy, 0))
    metrics += [(name, value, 0) for name, value in _numbers(record.seconds.model_dump(), "seconds")]
    for row in trial.history:
        metrics += [(f"training/{name}", factor * row[c], row["epoch"]) for c, (name, factor) in CURVES.items()]
    return metrics


def _numbers(tree: Mapping[str, Any], above: str) -> Iterator[tuple[str, float]]:
    """Every number under its path; undefined figures, lists and truths are none."""
    for path, value in flatten(tree):
        if isinstance(value, int | float) and not isinstance(value, bool) and LEFT_OUT not in path[:-1]:
            yield "/".join(map(_allowed, (above, *path))), float(value)


def _allowed(key: str) -> str:
    """`key` with only the characters that MLflow allows in a name."""
    return re.sub(r"[^A-Za-z0-9_. -]", "_", key).strip(".") or "_"

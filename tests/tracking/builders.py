"""A finished study with trials and a report, and its runs in a folder of MLflow."""

import json
from pathlib import Path

import pandas as pd

from cxr_platform.tracking.mlflow_runs import EXPERIMENT, PARENT_TAG, tracking_uri
from tests.evaluation.builders import drawn_frame, write_study
from tests.study_records import trial_record, write_record

LOSSES = [2.5, 1.5, 0.75]
RESULTS = {
    "winner": {"winner": "scratch", "line": "Winner by the paper's rule: scratch."},
    "strategies": {
        "scratch": {
            "pooled": {"accuracy_7_class": 90.5, "sensitivity": None},
            "intervals": {"accuracy_7_class": {"value": 90.5, "low": 88.25, "high": 92.0, "ratio": False}},
            "confusion_matrix": [[1, 2], [3, 4]],
            "paper": {"accuracy_7_class": 87.66},
        }
    },
}


def make_study(folder: Path, *, synthetic: bool = False) -> Path:
    """One strategy in three folds, with trials and a report."""
    write_study(folder, drawn_frame({"scratch": 0.9}, folds=3, scale=0.02), synthetic=synthetic)
    for fold in range(3):
        trial = folder / "trials" / "scratch" / f"fold-{fold}"
        write_record(trial / "trial.json", trial_record("scratch", fold, 12.5, accuracy=0.8 + fold / 100, seed=7))
        history = {"epoch": [1, 2, 3], "loss": LOSSES, "accuracy": [0.25, 0.5, 0.75], "learning_rate": [0.1, 0.05, 0.0]}
        pd.DataFrame(history).to_parquet(trial / "history.parquet")
    (folder / "report" / "figures").mkdir(parents=True)
    (folder / "report" / "index.html").write_text("the page", encoding="utf-8")
    (folder / "report" / "figures" / "accuracy.png").write_bytes(b"\x89PNG")
    (folder / "results.json").write_text(json.dumps(RESULTS), encoding="utf-8")
    return folder


def opened(study: Path):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=tracking_uri(study))


def runs_of(study: Path):
    client = opened(study)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    runs = list(client.search_runs([experiment.experiment_id]))
    return [r for r in runs if PARENT_TAG not in r.data.tags], [r for r in runs if PARENT_TAG in r.data.tags]

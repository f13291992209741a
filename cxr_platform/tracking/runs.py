"""The runs of studies in MLflow: found again by the hash of their predictions, written, replaced."""

import itertools
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cxr_platform.tracking import entries
from cxr_platform.tracking.entries import PREDICTIONS_TAG, RESULTS_TAG
from cxr_platform.tracking.finished import Finished, StoredTrial

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "chest X-ray studies"
PARENT_TAG = "mlflow.parentRunId"  # by which MLflow's page nests runs
PARAMS_A_REQUEST, METRICS_A_REQUEST = 100, 500  # MLflow takes 100 and 1,000


def open_experiment(client: "MlflowClient") -> str:
    """The id of the experiment of all studies, made where there is none."""
    known = client.get_experiment_by_name(EXPERIMENT)
    return str(known.experiment_id if known else client.create_experiment(EXPERIMENT))


def newest_run(client: "MlflowClient", experiment: str, finished: Finished) -> str:
    """The newest run of these predictions; empty where there is none."""
    runs = _found(client, experiment, PREDICTIONS_TAG, finished.predictions_sha256)
    return str(max(runs, key=lambda run: run.info.start_time).info.run_id) if runs else ""


def is_current(client: "MlflowClient", run_id: str, finished: Finished) -> bool:
    """Whether the run is of the same results.json, and was logged to its end."""
    run = client.get_run(run_id)
    return bool(run.data.tags.get(RESULTS_TAG) == finished.results_sha256 and run.info.status == "FINISHED")


def write_runs(client: "MlflowClient", experiment: str, finished: Finished) -> str:
    """The study's run with its report, and below it one a trial; returns the id of the study's, ended last."""
    study = finished.study
    name = f"{study.name} (synthetic images)" if study.manifest.synthetic else study.name
    run = client.create_run(experiment, tags=entries.study_tags(finished), run_name=name)
    run_id = str(run.info.run_id)
    _log(client, run_id, entries.study_params(finished), entries.study_metrics(finished))
    client.log_artifacts(run_id, str(finished.folder / "report"), "report")
    client.log_artifact(run_id, str(finished.folder / "study.json"))
    for trial in finished.trials:
        _write_trial(client, experiment, run_id, trial)
    client.set_terminated(run_id, "FINISHED")
    return run_id


def remove_others(client: "MlflowClient", experiment: str, finished: Finished, kept: str) -> None:
    """Earlier runs of the same predictions, after the new one is whole."""
    for run in _found(client, experiment, PREDICTIONS_TAG, finished.predictions_sha256):
        if run.info.run_id != kept:
            for child in _found(client, experiment, PARENT_TAG, run.info.run_id):
                client.delete_run(child.info.run_id)
            client.delete_run(run.info.run_id)


def _write_trial(client: "MlflowClient", experiment: str, parent: str, trial: StoredTrial) -> None:
    run = client.create_run(experiment, tags={PARENT_TAG: parent}, run_name=str(trial.record.key))
    run_id = str(run.info.run_id)
    _log(client, run_id, entries.trial_params(trial), entries.trial_metrics(trial))
    client.set_terminated(run_id, "FINISHED")


def _log(client: "MlflowClient", run_id: str, params: Mapping[str, str], metrics: Sequence[entries.Metric]) -> None:
    from mlflow.entities import Metric, Param

    now = int(1000 * datetime.now().timestamp())
    of_params = iter([Param(key, value) for key, value in params.items()])
    while some_params := list(itertools.islice(of_params, PARAMS_A_REQUEST)):
        client.log_batch(run_id, params=some_params)
    of_metrics = iter([Metric(key, float(value), now, step) for key, value, step in metrics])
    while some_metrics := list(itertools.islice(of_metrics, METRICS_A_REQUEST)):
        client.log_batch(run_id, metrics=some_metrics)


def _found(client: "MlflowClient", experiment: str, tag: str, value: str) -> Any:
    return client.search_runs([experiment], f"tags.`{tag}` = '{value}'")

"""Runs of studies in MLflow: one run per study and, below it, one per trial. Needs the extra `tracking`."""

import itertools
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr_platform.errors import ConfigError, StorageError, first_line
from cxr_platform.tracking.finished_study import (
    PREDICTIONS_TAG,
    RESULTS_TAG,
    FinishedStudy,
    LoggedMetric,
    read_finished_study,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

FOLDER = "mlruns"
EXPERIMENT = "chest X-ray studies"
PARENT_TAG = "mlflow.parentRunId"  # MLflow's page nests runs by it
PARAMS_PER_REQUEST, METRICS_PER_REQUEST = 100, 500  # MLflow accepts 100 and 1,000
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # with MLflow's default of 7 an absent server is an error after minutes
    # MLflow needs this for a folder. Its preferred database needs SQLAlchemy, which its client does not install.
    # `mlflow migrate-filestore` converts a folder.
    "MLFLOW_ALLOW_FILE_STORE": "true",
}
"""Set unless the user has set them, before MLflow reads them."""


def log_study(study_folder: Path, uri: str | None = None, on_message: Callable[[str], None] = lambda _: None) -> str:
    """Log a study and its report to the MLflow at `uri`, a folder or a server; return the id of the study's run.

    The default of `uri` is MLFLOW_TRACKING_URI, then the folder `mlruns` beside the study. A study is identified by the
    hash of its predictions. It is not logged again with the same results.json; with another one, or after an
    interruption, its run is replaced. `on_message` receives what was done.

    Raise `StudyError` for a study without report, `ConfigError` without MLflow, `StorageError` if logging fails.
    """
    finished, place = read_finished_study(study_folder), tracking_uri(study_folder, uri)
    name = finished.study.name
    with mlflow_client(place) as client:
        experiment = open_experiment(client)
        logged = _newest_run(client, experiment, finished)
        if logged and _is_current(client, logged, finished):
            on_message(f"Study {name} is already in MLflow at {place}: nothing was logged.")
            return logged
        run = _write_runs(client, experiment, finished)
        _remove_other_runs(client, experiment, finished, run)
    action = "replaced its run" if logged else "logged"
    on_message(
        f"Study {name} {action} with {len(finished.trials)} trials in MLflow at {place}, experiment “{EXPERIMENT}”."
    )
    return run


def tracking_uri(study_folder: Path, uri: str | None = None) -> str:
    """Return `uri`, else MLFLOW_TRACKING_URI, else the folder beside the study; folders as file: URIs."""
    given = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if given and re.match(r"[a-z][a-z0-9+.-]*:", given):
        return given
    return (Path(given) if given else study_folder.absolute().parent / FOLDER).absolute().as_uri()


@contextmanager
def mlflow_client(place: str) -> Iterator["MlflowClient"]:
    """Yield a client of the MLflow at `place`; turn errors of MLflow and of files in the block into `StorageError`.

    Raise `ConfigError` without MLflow.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise ConfigError(
            "Expected the package MLflow to log studies.",
            received=error,
            advice="`make setup` installs it with the extra `tracking`; elsewhere: pip install mlflow-skinny.",
        ) from error
    try:
        yield MlflowClient(tracking_uri=place)
    except (MlflowException, OSError) as error:
        raise StorageError(
            f"Expected to be able to log to MLflow at {place}.",
            received=first_line(error),
            advice="Give --tracking-uri a writable folder or a running server; a database needs sqlalchemy, alembic "
            "and sqlparse. Study and registry are unchanged.",
        ) from error


def open_experiment(client: "MlflowClient") -> str:
    """Return the id of the experiment of all studies, which is created if it does not exist."""
    known = client.get_experiment_by_name(EXPERIMENT)
    return str(known.experiment_id if known else client.create_experiment(EXPERIMENT))


def _newest_run(client: "MlflowClient", experiment: str, finished: FinishedStudy) -> str:
    """Return the id of the newest run of these predictions, empty if there is none."""
    runs = _runs_with_tag(client, experiment, PREDICTIONS_TAG, finished.predictions_sha256)
    return str(max(runs, key=lambda run: run.info.start_time).info.run_id) if runs else ""


def _is_current(client: "MlflowClient", run_id: str, finished: FinishedStudy) -> bool:
    """Return True if the run has the same results.json and was logged completely."""
    run = client.get_run(run_id)
    return bool(run.data.tags.get(RESULTS_TAG) == finished.results_sha256 and run.info.status == "FINISHED")


def _write_runs(client: "MlflowClient", experiment: str, finished: FinishedStudy) -> str:
    """Write the study's run with its report, and one per trial; return its id. It is marked as finished last."""
    study = finished.study
    name = f"{study.name} (synthetic images)" if study.manifest.synthetic else study.name
    run = client.create_run(experiment, tags=finished.tags(), run_name=name)
    run_id = str(run.info.run_id)
    _log_values(client, run_id, finished.params(), finished.metrics())
    client.log_artifacts(run_id, str(finished.folder / "report"), "report")
    client.log_artifact(run_id, str(finished.folder / "study.json"))
    for trial in finished.trials:
        child = client.create_run(experiment, tags={PARENT_TAG: run_id}, run_name=str(trial.record.key))
        _log_values(client, str(child.info.run_id), trial.params(), trial.metrics())
        client.set_terminated(str(child.info.run_id), "FINISHED")
    client.set_terminated(run_id, "FINISHED")
    return run_id


def _remove_other_runs(client: "MlflowClient", experiment: str, finished: FinishedStudy, kept: str) -> None:
    """Remove earlier runs of the same predictions, after the new one is complete."""
    for run in _runs_with_tag(client, experiment, PREDICTIONS_TAG, finished.predictions_sha256):
        if run.info.run_id != kept:
            for child in _runs_with_tag(client, experiment, PARENT_TAG, run.info.run_id):
                client.delete_run(child.info.run_id)
            client.delete_run(run.info.run_id)


def _log_values(
    client: "MlflowClient", run_id: str, params: Mapping[str, str], metrics: Sequence[LoggedMetric]
) -> None:
    from mlflow import entities

    now = int(1000 * datetime.now().timestamp())
    of_params = iter([entities.Param(key, value) for key, value in params.items()])
    while some_params := list(itertools.islice(of_params, PARAMS_PER_REQUEST)):
        client.log_batch(run_id, params=some_params)
    of_metrics = iter([entities.Metric(key, float(value), now, step) for key, value, step in metrics])
    while some_metrics := list(itertools.islice(of_metrics, METRICS_PER_REQUEST)):
        client.log_batch(run_id, metrics=some_metrics)


def _runs_with_tag(client: "MlflowClient", experiment: str, tag: str, value: str) -> Any:
    return client.search_runs([experiment], f"tags.`{tag}` = '{value}'")

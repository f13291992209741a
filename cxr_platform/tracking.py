"""A finished study in MLflow: one run for the study, and below it one for each trial. Needs the extra `tracking`.

The study's run has the profile as parameters, what identifies it as tags, the figures of results.json as metrics and
the report as artifacts; a trial's run has its training curves, a step an epoch. The study is known by the hash of its
predictions: logged again with the same results.json it is left alone, with another one its run is replaced, and so is
a run whose logging was interrupted.
"""

import hashlib
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr_platform.errors import ConfigError, StorageError, StudyError
from cxr_platform.evaluation.study import Study, read_study

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "chest X-ray studies"
FOLDER = "mlruns"
PREDICTIONS_TAG, RESULTS_TAG = "cxr.predictions_sha256", "cxr.results_sha256"
PARENT_TAG, NOTE_TAG = "mlflow.parentRunId", "mlflow.note.content"  # by which MLflow's page nests and describes runs
FIGURES = ("strategies", "findings", "sections")  # of results.json
LEFT_OUT = "paper"  # printed figures are no result of a study
PARAMS_A_REQUEST, METRICS_A_REQUEST = 100, 500  # MLflow takes 100 and 1,000
TRIAL_FACTS = ("strategy", "fold", "seed", "backend", "node")
CURVES = {"loss": ("loss", 1.0), "accuracy": ("accuracy_percent", 100.0), "learning_rate": ("learning_rate", 1.0)}
"""Column of history.parquet → its name in MLflow and the factor that brings it to its unit."""

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # with MLflow's own 7 a server that is not there is found out in minutes
    # MLflow wants to be told that a folder is meant: it would rather have a database, for which its client alone does
    # not bring SQLAlchemy. `mlflow migrate-filestore` moves a folder into one.
    "MLFLOW_ALLOW_FILE_STORE": "true",
}
"""Set unless the user has set them, before MLflow reads them."""


def log_study(study_folder: Path, uri: str | None = None, say: Callable[[str], None] | None = None) -> str:
    """Log a study and its report to the MLflow at `uri`, a folder or a server; returns the id of the study's run.

    Without `uri` it is MLFLOW_TRACKING_URI, and without that the folder `mlruns` beside the study. `say` is told in
    words what was done. Raises `StudyError` for a study without report, `ConfigError` where MLflow is not installed,
    `StorageError` where it cannot be written to.
    """
    say = say or (lambda _: None)
    study, results = read_study(study_folder), _results(study_folder)
    trials = [_read_trial(folder) for folder in _trials(study_folder, study)]
    place = tracking_uri(study_folder, uri)
    with _client(place) as client:
        experiment = _experiment(client)
        logged = _logged(client, experiment, study_folder)
        if logged and not _stale(client, logged, study_folder):
            say(f"Study {study.name} stands in MLflow at {place} as it is now: nothing was logged.")
            return logged
        run = _log_parent(client, experiment, study_folder, study, results)
        for trial in trials:
            _log_trial(client, experiment, run, trial)
        client.set_terminated(run, "FINISHED")
        _remove_others(client, experiment, study_folder, run)
    how = "replaced its run" if logged else "logged"
    say(f"Study {study.name} {how} with {len(trials)} trials in MLflow at {place}, experiment “{EXPERIMENT}”.")
    return run


def tracking_uri(study_folder: Path, uri: str | None = None) -> str:
    """Where a study is logged: `uri`, else MLFLOW_TRACKING_URI, else the folder beside it; folders as file: URIs."""
    given = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if given and re.match(r"[a-z][a-z0-9+.-]*:", given):
        return given
    return (Path(given) if given else study_folder.absolute().parent / FOLDER).absolute().as_uri()


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


@contextmanager
def _client(place: str) -> "Iterator[MlflowClient]":
    """A client of the MLflow at `place`; its errors, and those of the disk, leave as `StorageError`."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise ConfigError(
            "Expected MLflow, with which studies are logged.",
            received=error,
            advice="`make setup` installs it with the extra `tracking`; elsewhere: pip install mlflow-skinny.",
        ) from error
    try:
        yield MlflowClient(tracking_uri=place)
    except (MlflowException, OSError) as error:
        raise StorageError(
            f"Expected to be able to log to MLflow at {place}.",
            received=str(error).strip().splitlines()[0].rstrip("."),
            advice="Give --tracking-uri a folder that can be written or a server that runs; a database needs "
            "sqlalchemy, alembic and sqlparse. The study itself is untouched.",
        ) from error


def _experiment(client: "MlflowClient") -> str:
    known = client.get_experiment_by_name(EXPERIMENT)
    return str(known.experiment_id if known else client.create_experiment(EXPERIMENT))


def _found(client: "MlflowClient", experiment: str, tag: str, value: str) -> Any:
    return client.search_runs([experiment], f"tags.`{tag}` = '{value}'")


def _logged(client: "MlflowClient", experiment: str, folder: Path) -> str:
    """The newest run of these predictions; empty where there is none."""
    runs = _found(client, experiment, PREDICTIONS_TAG, _sha256(folder / "predictions.parquet"))
    return str(max(runs, key=lambda run: run.info.start_time).info.run_id) if runs else ""


def _stale(client: "MlflowClient", run_id: str, folder: Path) -> bool:
    run = client.get_run(run_id)
    same = run.data.tags.get(RESULTS_TAG) == _sha256(folder / "results.json")
    return not same or run.info.status != "FINISHED"


def _remove_others(client: "MlflowClient", experiment: str, folder: Path, kept: str) -> None:
    """Earlier runs of the same predictions, after the new one is whole."""
    for run in _found(client, experiment, PREDICTIONS_TAG, _sha256(folder / "predictions.parquet")):
        if run.info.run_id != kept:
            for child in _found(client, experiment, PARENT_TAG, run.info.run_id):
                client.delete_run(child.info.run_id)
            client.delete_run(run.info.run_id)


def _log_parent(client: "MlflowClient", experiment: str, folder: Path, study: Study, results: Mapping[str, Any]) -> str:
    name = f"{study.name} (synthetic films)" if study.manifest.synthetic else study.name
    run = client.create_run(experiment, tags=_tags(folder, study, results), run_name=name)
    run_id = str(run.info.run_id)
    _log_params(client, run_id, {key: str(value) for key, value in _leaves(study.profile, ".")})
    figures = {part: results.get(part, {}) for part in FIGURES}
    _log_metrics(client, run_id, [(key, value, 0) for key, value in _numbers(figures)])
    client.log_artifacts(run_id, str(folder / "report"), "report")
    client.log_artifact(run_id, str(folder / "study.json"))
    return run_id


def _log_trial(client: "MlflowClient", experiment: str, parent: str, trial: Mapping[str, Any]) -> None:
    run = client.create_run(experiment, tags={PARENT_TAG: parent}, run_name=f"{trial['strategy']} fold {trial['fold']}")
    run_id = str(run.info.run_id)
    _log_params(client, run_id, {key: str(trial[key]) for key in TRIAL_FACTS if key in trial})
    metrics = [("held_out/accuracy_percent", 100.0 * trial["accuracy"], 0)]
    metrics += [(f"seconds/{key}", value, 0) for key, value in _numbers(trial.get("seconds", {}))]
    for row in trial["history"]:
        metrics += [(f"training/{name}", factor * row[c], row["epoch"]) for c, (name, factor) in CURVES.items()]
    _log_metrics(client, run_id, metrics)
    client.set_terminated(run_id, "FINISHED")


def _trials(folder: Path, study: Study) -> list[Path]:
    """Folders of the trials behind the pooled predictions; fewer where they were not kept."""
    places = (folder / "trials" / s / f"fold-{k}" for s in study.strategies for k in range(study.folds))
    return [place for place in places if (place / "trial.json").is_file()]


def _read_trial(folder: Path) -> dict[str, Any]:
    """trial.json, with the rows of history.parquet under `history`."""
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


def _tags(folder: Path, study: Study, results: Mapping[str, Any]) -> dict[str, str]:
    facts = {
        "study": study.name,
        "protocol": study.protocol,
        "folds": study.folds,
        "synthetic": study.manifest.synthetic,
        "manifest": study.manifest.path,
        "manifest_sha256": study.manifest.content_hash,
        "started": study.started,
        "winner": results["winner"]["winner"],
        **{f"version.{name}": version for name, version in study.versions.items()},
    }
    return {
        PREDICTIONS_TAG: _sha256(folder / "predictions.parquet"),
        RESULTS_TAG: _sha256(folder / "results.json"),
        NOTE_TAG: f"{results['winner']['line']} For research, not for diagnosis.",
        **{f"cxr.{name}": str(value) for name, value in facts.items()},
    }


def _log_params(client: "MlflowClient", run_id: str, params: Mapping[str, str]) -> None:
    from mlflow.entities import Param

    entities = iter([Param(key, value) for key, value in params.items()])
    while batch := list(itertools.islice(entities, PARAMS_A_REQUEST)):
        client.log_batch(run_id, params=batch)


def _log_metrics(client: "MlflowClient", run_id: str, metrics: list[tuple[str, float, int]]) -> None:
    from mlflow.entities import Metric

    now = int(1000 * datetime.now().timestamp())
    entities = iter([Metric(key, float(value), now, step) for key, value, step in metrics])
    while batch := list(itertools.islice(entities, METRICS_A_REQUEST)):
        client.log_batch(run_id, metrics=batch)


def _leaves(tree: Any, join: str, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """What is no mapping, under the keys that lead to it; only the characters that MLflow allows in a name."""
    if not isinstance(tree, Mapping):
        yield prefix, tree
        return
    for key, value in tree.items():
        name = re.sub(r"[^A-Za-z0-9_. -]", "_", str(key)).strip(".") or "_"
        yield from _leaves(value, join, f"{prefix}{join}{name}" if prefix else name)


def _numbers(tree: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Every number under its path; undefined figures, lists and truths are none."""
    for key, value in _leaves(tree, "/"):
        if isinstance(value, int | float) and not isinstance(value, bool) and f"/{LEFT_OUT}/" not in key:
            yield key, float(value)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

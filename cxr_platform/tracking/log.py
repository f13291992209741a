"""Logging a study: once, again where its report is another one, not at all where it stands there already."""

from collections.abc import Callable
from pathlib import Path

from cxr_platform.tracking.finished import read_finished
from cxr_platform.tracking.place import client_of, tracking_uri
from cxr_platform.tracking.runs import EXPERIMENT, is_current, newest_run, open_experiment, remove_others, write_runs


def log_study(study_folder: Path, uri: str | None = None, say: Callable[[str], None] = lambda _: None) -> str:
    """Log a study and its report to the MLflow at `uri`, a folder or a server; returns the id of the study's run.

    Without `uri` it is MLFLOW_TRACKING_URI, and without that the folder `mlruns` beside the study. `say` is told in
    words what was done. The study is known by the hash of its predictions: with the same results.json it is left
    alone, with another one its run is replaced, and so is a run whose logging was interrupted.

    Raises `StudyError` for a study without report, `ConfigError` where MLflow is not installed, `StorageError` where it
    cannot be written to.
    """
    finished, place = read_finished(study_folder), tracking_uri(study_folder, uri)
    name = finished.study.name
    with client_of(place) as client:
        experiment = open_experiment(client)
        logged = newest_run(client, experiment, finished)
        if logged and is_current(client, logged, finished):
            say(f"Study {name} stands in MLflow at {place} as it is now: nothing was logged.")
            return logged
        run = write_runs(client, experiment, finished)
        remove_others(client, experiment, finished, run)
    how = "replaced its run" if logged else "logged"
    say(f"Study {name} {how} with {len(finished.trials)} trials in MLflow at {place}, experiment “{EXPERIMENT}”.")
    return run

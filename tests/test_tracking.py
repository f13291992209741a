"""With the real MLflow client on folders of the test, and a server that is not there."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

from cxr_platform.errors import ConfigError, StorageError, StudyError
from cxr_platform.tracking import EXPERIMENT, PARENT_TAG, log_study, tracking_uri
from tests.evaluation.builders import drawn_frame, write_study

pytest.importorskip("mlflow", reason="the extra `tracking` is not installed")

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


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def make_study(folder: Path, *, synthetic: bool = False) -> Path:
    """One strategy in three folds, with trials and a report."""
    write_study(folder, drawn_frame({"scratch": 0.9}, folds=3, scale=0.02), synthetic=synthetic)
    for fold in range(3):
        trial = folder / "trials" / "scratch" / f"fold-{fold}"
        trial.mkdir(parents=True)
        facts = {
            "strategy": "scratch",
            "fold": fold,
            "accuracy": 0.8 + fold / 100,
            "seconds": {"total": 12.5},
            "seed": 7,
        }
        (trial / "trial.json").write_text(json.dumps(facts), encoding="utf-8")
        history = {"epoch": [1, 2, 3], "loss": LOSSES, "accuracy": [0.25, 0.5, 0.75], "learning_rate": [0.1, 0.05, 0.0]}
        pd.DataFrame(history).to_parquet(trial / "history.parquet")
    (folder / "report" / "figures").mkdir(parents=True)
    (folder / "report" / "index.html").write_text("the page", encoding="utf-8")
    (folder / "report" / "figures" / "accuracy.png").write_bytes(b"\x89PNG")
    (folder / "results.json").write_text(json.dumps(RESULTS), encoding="utf-8")
    return folder


def client_of(study: Path):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=tracking_uri(study))


def runs_of(study: Path):
    client = client_of(study)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    runs = list(client.search_runs([experiment.experiment_id]))
    return [r for r in runs if PARENT_TAG not in r.data.tags], [r for r in runs if PARENT_TAG in r.data.tags]


def no_space_left(*args: object, **options: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory):
    """A study, logged once, and the id of its run."""
    study = make_study(tmp_path_factory.mktemp("films with a space") / "runs" / "test")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return study, log_study(study)


def test_without_an_address_it_is_a_folder_beside_the_studies(logged):
    study, _ = logged

    assert (study.parent / "mlruns").is_dir()
    assert tracking_uri(study) == (study.parent / "mlruns").as_uri()


def test_an_address_goes_before_the_environment_and_that_before_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example")

    assert tracking_uri(tmp_path / "runs" / "test") == "http://tracking.example"
    assert tracking_uri(tmp_path / "runs" / "test", str(tmp_path / "elsewhere")) == (tmp_path / "elsewhere").as_uri()
    assert tracking_uri(tmp_path, "sqlite:///a.db") == "sqlite:///a.db"


def test_the_profile_is_read_back_as_parameters(logged):
    study, run_id = logged
    run = client_of(study).get_run(run_id)

    assert run.data.params == {
        "name": "quick", "folds": "3", "model.input_size": "96", "model.alpha": "1.0", "seed": "2020",
    }  # fmt: skip
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "test"


def test_what_identifies_the_study_is_read_back_as_tags(logged):
    study, run_id = logged
    tags = client_of(study).get_run(run_id).data.tags

    assert tags["cxr.manifest_sha256"] == "b3f0c4de"
    assert tags["cxr.protocol"] == "grouped"
    assert tags["cxr.version.tensorflow"] == "2.16.2"
    assert tags["cxr.winner"] == "scratch"
    assert "not for diagnosis" in tags["mlflow.note.content"]


def test_figures_and_the_bounds_of_their_intervals_are_metrics_and_the_papers_are_not(logged):
    study, run_id = logged

    assert client_of(study).get_run(run_id).data.metrics == {
        "strategies/scratch/pooled/accuracy_7_class": 90.5,
        "strategies/scratch/intervals/accuracy_7_class/value": 90.5,
        "strategies/scratch/intervals/accuracy_7_class/low": 88.25,
        "strategies/scratch/intervals/accuracy_7_class/high": 92.0,
    }


def test_each_trial_is_a_run_below_with_its_curves_by_epoch(logged):
    study, run_id = logged
    client, (_, trials) = client_of(study), runs_of(study)
    last = next(trial for trial in trials if trial.info.run_name == "scratch fold 2")

    assert len(trials) == 3
    assert {trial.data.tags[PARENT_TAG] for trial in trials} == {run_id}
    assert {trial.info.status for trial in trials} == {"FINISHED"}
    losses = client.get_metric_history(last.info.run_id, "training/loss")
    assert [(metric.step, metric.value) for metric in losses] == list(zip([1, 2, 3], LOSSES, strict=True))
    accuracies = client.get_metric_history(last.info.run_id, "training/accuracy_percent")
    assert [metric.value for metric in accuracies] == [25, 50, 75]
    assert last.data.metrics["training/learning_rate"] == 0
    assert last.data.metrics["held_out/accuracy_percent"] == pytest.approx(82)
    assert last.data.params["seed"] == "7"


def test_the_report_and_the_study_are_artifacts(logged, tmp_path):
    study, run_id = logged
    client = client_of(study)

    assert {a.path for a in client.list_artifacts(run_id)} == {"report", "study.json"}
    page = client.download_artifacts(run_id, "report/index.html", str(tmp_path))
    assert Path(page).read_text(encoding="utf-8") == "the page"
    assert "report/figures/accuracy.png" in {a.path for a in client.list_artifacts(run_id, "report/figures")}


def test_logged_again_unchanged_it_is_left_alone(logged):
    study, run_id = logged
    said: list[str] = []

    assert log_study(study, say=said.append) == run_id
    assert "nothing was logged" in said[0]
    assert [len(runs) for runs in runs_of(study)] == [1, 3]


def test_a_new_report_replaces_the_run(tmp_path):
    study = make_study(tmp_path / "test")
    first = log_study(study)
    (study / "results.json").write_text(json.dumps({**RESULTS, "strategies": {}}), encoding="utf-8")
    said: list[str] = []

    second = log_study(study, say=said.append)

    assert second != first
    assert "replaced" in said[0]
    parents, trials = runs_of(study)
    assert [run.info.run_id for run in parents] == [second]
    assert {trial.data.tags[PARENT_TAG] for trial in trials} == {second}
    assert len(trials) == 3


def test_an_interrupted_logging_is_replaced(tmp_path, monkeypatch):
    study = make_study(tmp_path / "test")
    with monkeypatch.context() as patch:
        patch.setattr("mlflow.MlflowClient.set_terminated", no_space_left)
        with pytest.raises(StorageError, match="No space left"):
            log_study(study)

    run = log_study(study)

    parents, trials = runs_of(study)
    assert [parent.info.run_id for parent in parents] == [run]
    assert [trial.info.status for trial in trials] == ["FINISHED"] * 3


def test_other_predictions_are_another_run(tmp_path):
    study = make_study(tmp_path / "test")
    first = log_study(study)
    drawn_frame({"scratch": 0.5}, folds=3, scale=0.02).to_parquet(study / "predictions.parquet")

    assert log_study(study) != first
    assert [len(runs) for runs in runs_of(study)] == [2, 6]


def test_a_study_without_its_trials_is_logged_without_them(tmp_path):
    study = make_study(tmp_path / "test")
    shutil.rmtree(study / "trials")
    said: list[str] = []

    log_study(study, say=said.append)

    assert "with 0 trials" in said[0]


def test_a_broken_trial_is_named_before_anything_is_logged(tmp_path):
    study = make_study(tmp_path / "test")
    (study / "trials" / "scratch" / "fold-1" / "history.parquet").write_bytes(b"PAR1")

    with pytest.raises(StudyError, match="scratch/fold-1"):
        log_study(study)
    assert not (tmp_path / "mlruns").exists()


def test_synthetic_films_are_in_the_name_of_the_run(tmp_path):
    study = make_study(tmp_path / "test", synthetic=True)

    run = client_of(study).get_run(log_study(study))

    assert run.info.run_name == "test (synthetic films)"
    assert run.data.tags["cxr.synthetic"] == "True"


def test_a_study_without_report_is_refused_with_what_to_do(tmp_path):
    study = make_study(tmp_path / "test")
    (study / "report" / "index.html").unlink()

    with pytest.raises(StudyError, match="cxr report --study"):
        log_study(study)
    assert not (tmp_path / "mlruns").exists()


def test_without_the_extra_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)

    with pytest.raises(ConfigError, match="mlflow-skinny"):
        log_study(make_study(tmp_path / "test"))


def test_a_place_that_cannot_be_written_is_said_to_be(tmp_path):
    study = make_study(tmp_path / "test")
    (tmp_path / "file").write_text("", encoding="utf-8")

    with pytest.raises(StorageError, match=r"log to MLflow at file:.*The study itself is untouched"):
        log_study(study, str(tmp_path / "file"))


def test_a_server_that_is_not_there_is_found_out(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    with pytest.raises(StorageError, match=r"at http://127\.0\.0\.1:9"):
        log_study(make_study(tmp_path / "test"), "http://127.0.0.1:9")


def test_a_database_without_its_library_is_said_to_need_it(tmp_path):
    if importlib.util.find_spec("sqlalchemy"):
        pytest.skip("SQLAlchemy is installed: a database is usable")

    with pytest.raises(StorageError, match="sqlalchemy"):
        log_study(make_study(tmp_path / "test"), f"sqlite:///{tmp_path / 'a.db'}")

"""Logging a study with the real MLflow client: once, replaced, or not again; and what is read back."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest

from cxr_platform.errors import ConfigError, StorageError, StudyError
from cxr_platform.tracking.finished_study import read_finished_study
from cxr_platform.tracking.mlflow_runs import PARENT_TAG, log_study, tracking_uri
from tests.evaluation.builders import drawn_frame
from tests.tracking.builders import LOSSES, RESULTS, make_study, opened, runs_of

pytest.importorskip("mlflow", reason="the extra `tracking` is not installed")


def no_space_left(*args: object, **options: object) -> None:
    raise OSError(28, "No space left on device")


def test_the_default_is_a_folder_beside_the_studies(logged):
    study, _ = logged

    assert (study.parent / "mlruns").is_dir()
    assert tracking_uri(study) == (study.parent / "mlruns").as_uri()


def test_an_unchanged_study_is_not_logged_again(logged):
    study, run_id = logged
    messages: list[str] = []

    assert log_study(study, on_message=messages.append) == run_id
    assert "nothing was logged" in messages[0]
    assert [len(runs) for runs in runs_of(study)] == [1, 3]


def test_a_new_report_replaces_the_run(tmp_path):
    study = make_study(tmp_path / "test")
    first = log_study(study)
    (study / "results.json").write_text(json.dumps({**RESULTS, "strategies": {}}), encoding="utf-8")
    messages: list[str] = []

    second = log_study(study, on_message=messages.append)

    assert second != first
    assert "replaced" in messages[0]
    parents, trials = runs_of(study)
    assert [run.info.run_id for run in parents] == [second]
    assert {trial.data.tags[PARENT_TAG] for trial in trials} == {second}
    assert len(trials) == 3


def test_an_interrupted_run_is_replaced(tmp_path, monkeypatch):
    study = make_study(tmp_path / "test")
    with monkeypatch.context() as patch:
        patch.setattr("mlflow.MlflowClient.set_terminated", no_space_left)
        with pytest.raises(StorageError, match="No space left"):
            log_study(study)

    run = log_study(study)

    parents, trials = runs_of(study)
    assert [parent.info.run_id for parent in parents] == [run]
    assert [trial.info.status for trial in trials] == ["FINISHED"] * 3


def test_other_predictions_are_logged_as_another_run(tmp_path):
    study = make_study(tmp_path / "test")
    first = log_study(study)
    drawn_frame({"scratch": 0.5}, folds=3, scale=0.02).to_parquet(study / "predictions.parquet")

    assert log_study(study) != first
    assert [len(runs) for runs in runs_of(study)] == [2, 6]


def test_a_study_without_its_trials_is_logged_without_them(tmp_path):
    study = make_study(tmp_path / "test")
    shutil.rmtree(study / "trials")
    messages: list[str] = []

    log_study(study, on_message=messages.append)

    assert "with 0 trials" in messages[0]


def test_a_damaged_trial_is_an_error_before_anything_is_logged(tmp_path):
    study = make_study(tmp_path / "test")
    (study / "trials" / "scratch" / "fold-1" / "history.parquet").write_bytes(b"PAR1")

    with pytest.raises(StudyError, match="scratch/fold-1"):
        log_study(study)
    assert not (tmp_path / "mlruns").exists()


def test_the_argument_takes_precedence_over_the_environment_and_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example")

    assert tracking_uri(tmp_path / "runs" / "test") == "http://tracking.example"
    assert tracking_uri(tmp_path / "runs" / "test", str(tmp_path / "elsewhere")) == (tmp_path / "elsewhere").as_uri()
    assert tracking_uri(tmp_path, "sqlite:///a.db") == "sqlite:///a.db"


def test_without_mlflow_the_error_advises_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)

    with pytest.raises(ConfigError, match="mlflow-skinny"):
        log_study(make_study(tmp_path / "test"))


def test_a_place_that_cannot_be_written_is_a_storage_error(tmp_path):
    study = make_study(tmp_path / "test")
    (tmp_path / "file").write_text("", encoding="utf-8")

    with pytest.raises(StorageError, match=r"log to MLflow at file:.*Study and registry are unchanged"):
        log_study(study, str(tmp_path / "file"))


def test_a_server_that_does_not_answer_is_a_storage_error(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    with pytest.raises(StorageError, match=r"at http://127\.0\.0\.1:9"):
        log_study(make_study(tmp_path / "test"), "http://127.0.0.1:9")


def test_a_database_without_its_library_is_an_error_that_names_it(tmp_path):
    if importlib.util.find_spec("sqlalchemy"):
        pytest.skip("SQLAlchemy is installed: a database is usable")

    with pytest.raises(StorageError, match="sqlalchemy"):
        log_study(make_study(tmp_path / "test"), f"sqlite:///{tmp_path / 'a.db'}")


def test_the_profile_is_logged_as_parameters(logged):
    study, run_id = logged
    run = opened(study).get_run(run_id)

    assert run.data.params == read_finished_study(study).params()
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "test"


def test_the_identity_of_the_study_is_logged_as_tags(logged):
    study, run_id = logged
    tags = opened(study).get_run(run_id).data.tags

    assert tags["cxr.manifest_sha256"] == "b3f0c4de"
    assert tags["cxr.protocol"] == "grouped"
    assert tags["cxr.version.tensorflow"] == "2.16.2"
    assert tags["cxr.winner"] == "scratch"
    assert "not for diagnosis" in tags["mlflow.note.content"]


def test_values_and_bounds_are_logged_as_metrics_without_printed_ones(logged):
    study, run_id = logged

    assert opened(study).get_run(run_id).data.metrics == {
        "strategies/scratch/pooled/accuracy_7_class": 90.5,
        "strategies/scratch/intervals/accuracy_7_class/value": 90.5,
        "strategies/scratch/intervals/accuracy_7_class/low": 88.25,
        "strategies/scratch/intervals/accuracy_7_class/high": 92.0,
    }


def test_each_trial_is_a_nested_run_with_its_curves_by_epoch(logged):
    study, run_id = logged
    client, (_, trials) = opened(study), runs_of(study)
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


def test_the_report_and_study_json_are_artifacts(logged, tmp_path):
    study, run_id = logged
    client = opened(study)

    assert {a.path for a in client.list_artifacts(run_id)} == {"report", "study.json"}
    page = client.download_artifacts(run_id, "report/index.html", str(tmp_path))
    assert Path(page).read_text(encoding="utf-8") == "the page"
    assert "report/figures/accuracy.png" in {a.path for a in client.list_artifacts(run_id, "report/figures")}


def test_synthetic_images_are_in_the_name_of_the_run(tmp_path):
    study = make_study(tmp_path / "test", synthetic=True)

    run = opened(study).get_run(log_study(study))

    assert run.info.run_name == "test (synthetic images)"
    assert run.data.tags["cxr.synthetic"] == "True"

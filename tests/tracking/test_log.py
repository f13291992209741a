"""When a study is logged, replaced, or left alone."""

import json
import shutil

import pytest

from cxr_platform.errors import StorageError, StudyError
from cxr_platform.tracking.log import log_study
from cxr_platform.tracking.place import tracking_uri
from cxr_platform.tracking.runs import PARENT_TAG
from tests.evaluation.builders import drawn_frame
from tests.tracking.builders import RESULTS, make_study, runs_of

pytest.importorskip("mlflow", reason="the extra `tracking` is not installed")


def no_space_left(*args: object, **options: object) -> None:
    raise OSError(28, "No space left on device")


def test_without_an_address_it_is_a_folder_beside_the_studies(logged):
    study, _ = logged

    assert (study.parent / "mlruns").is_dir()
    assert tracking_uri(study) == (study.parent / "mlruns").as_uri()


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

"""What is read of a finished study, and the names and values that are logged of it."""

import shutil
from dataclasses import replace

import pytest

from cxr_platform.errors import StudyError
from cxr_platform.tracking.finished_study import read_finished_study
from tests.evaluation.stored import rewritten
from tests.tracking.builders import LOSSES, RESULTS, make_study


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory):
    return read_finished_study(make_study(tmp_path_factory.mktemp("runs") / "test"))


def test_the_profile_has_the_names_that_override_it(finished):
    params = finished.params()
    known = {"name": "quick", "folds": "3", "model.input_size": "96", "model.alpha": "1.0", "seed": "2020"}
    assert known.items() <= params.items()
    assert params["training.scratch.epochs"] == str(finished.study.profile.training.scratch.epochs)


def test_characters_that_mlflow_does_not_allow_are_replaced(finished):
    odd = replace(finished, results={"sections": {"shares": {"<65 years/any": 3, "...": 4}}})
    names = [name for name, _, _ in odd.metrics()]
    assert names == ["sections/shares/_65 years_any", "sections/shares/_"]


def test_lists_booleans_undefined_and_printed_values_are_no_metrics(finished):
    tree = {"a": {"list": [1], "truth": True, "none": None, "paper": {"sensitivity": 99.0}, "leakage": {"paper": 2}}}
    odd = replace(finished, results={"strategies": tree, "manifest": {"images": 7}})
    assert odd.metrics() == [("strategies/a/leakage/paper", 2.0, 0)]


def test_the_curves_of_a_trial_have_one_step_per_epoch(finished):
    metrics = finished.trials[2].metrics()
    assert ("held_out/accuracy_percent", pytest.approx(82.0), 0) in metrics
    assert ("seconds/total", 12.5, 0) in metrics
    assert [(value, step) for name, value, step in metrics if name == "training/accuracy_percent"] == [
        (25, 1), (50, 2), (75, 3),
    ]  # fmt: skip
    assert finished.trials[2].params() == {
        "strategy": "scratch", "fold": "2", "seed": "7", "backend": "tensorflow", "node": "a",
    }  # fmt: skip


def test_results_trials_and_their_curves_are_read(tmp_path):
    finished = read_finished_study(make_study(tmp_path / "test"))

    assert finished.study.name == "test"
    assert finished.results == RESULTS
    assert [trial.record.fold for trial in finished.trials] == [0, 1, 2]
    assert [row["loss"] for row in finished.trials[1].history] == LOSSES
    assert len({finished.predictions_sha256, finished.results_sha256}) == 2


def test_a_study_without_trial_folders_has_no_trials(tmp_path):
    study = make_study(tmp_path / "test")
    shutil.rmtree(study / "trials")

    assert read_finished_study(study).trials == ()


def test_a_damaged_trial_is_an_error_that_names_it(tmp_path):
    study = make_study(tmp_path / "test")
    (study / "trials" / "scratch" / "fold-1" / "history.parquet").write_bytes(b"PAR1")

    with pytest.raises(StudyError, match="scratch/fold-1"):
        read_finished_study(study)


def test_a_study_without_report_is_an_error_with_advice(tmp_path):
    study = make_study(tmp_path / "test")
    (study / "report" / "index.html").unlink()

    with pytest.raises(StudyError, match="cxr report --study"):
        read_finished_study(study)


def test_a_study_that_leaves_origins_out_has_no_report_of_its_own(tmp_path):
    with pytest.raises(StudyError, match="whose report shows it"):
        read_finished_study(rewritten(make_study(tmp_path / "test"), protocol="origins"))

"""What a study must have to be logged."""

import shutil

import pytest

from cxr_platform.errors import StudyError
from cxr_platform.tracking.finished import read_finished
from tests.tracking.builders import LOSSES, RESULTS, make_study


def test_results_trials_and_their_curves_are_read(tmp_path):
    finished = read_finished(make_study(tmp_path / "test"))

    assert finished.study.name == "test"
    assert finished.results == RESULTS
    assert [trial.record.fold for trial in finished.trials] == [0, 1, 2]
    assert [row["loss"] for row in finished.trials[1].history] == LOSSES
    assert len({finished.predictions_sha256, finished.results_sha256}) == 2


def test_trials_that_were_not_kept_are_none(tmp_path):
    study = make_study(tmp_path / "test")
    shutil.rmtree(study / "trials")

    assert read_finished(study).trials == ()


def test_a_broken_trial_is_named(tmp_path):
    study = make_study(tmp_path / "test")
    (study / "trials" / "scratch" / "fold-1" / "history.parquet").write_bytes(b"PAR1")

    with pytest.raises(StudyError, match="scratch/fold-1"):
        read_finished(study)


def test_a_study_without_report_is_refused_with_what_to_do(tmp_path):
    study = make_study(tmp_path / "test")
    (study / "report" / "index.html").unlink()

    with pytest.raises(StudyError, match="cxr report --study"):
        read_finished(study)

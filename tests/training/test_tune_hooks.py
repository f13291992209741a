from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment import Trial

from cxr_platform.domain.study import TrialKey
from cxr_platform.errors import ConfigError, StorageError
from cxr_platform.training.folder import StudyFolder
from cxr_platform.training.progress import StudyProgress
from cxr_platform.training.tune_hooks import PlannedOrder, StopStudy, TuneProgress
from tests.recorded_progress import RecordedProgress
from tests.study_records import trial_record, write_record
from tests.training.builders import tiny_study

KEY = TrialKey("off-the-shelf", 0)
STORED = {"record": trial_record("off-the-shelf")}
FULL = StorageError("Expected room.")


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return tiny_study(tmp_path, ("off-the-shelf",)).folder


def test_a_trial_that_was_put_back_runs_before_those_that_have_not_begun() -> None:
    order = PlannedOrder()
    trials = {name: SimpleNamespace(trial_id=name, status=Trial.PENDING) for name in ("a", "b", "c")}
    for trial in trials.values():
        order.on_trial_add(None, trial)
    assert order.choose_trial_to_run(None) is trials["a"]
    trials["a"].status = trials["b"].status = Trial.RUNNING
    assert order.choose_trial_to_run(None) is trials["c"]
    trials["a"].status = Trial.PENDING
    order.on_trial_add(None, trials["a"])  # as Tune does when it requeues one
    assert order.choose_trial_to_run(None) is trials["a"]
    for trial in trials.values():
        trial.status = Trial.TERMINATED
    assert order.choose_trial_to_run(None) is None


def test_an_error_that_affects_every_trial_stops_all(folder: StudyFolder) -> None:
    stop, refused = StopStudy(folder), ConfigError("Expected another profile.")
    assert stop("1", {"refused": refused, "key": KEY})
    assert stop.stop_all()
    assert stop.error is refused


def test_a_folder_that_only_one_node_cannot_write_stops_nothing(folder: StudyFolder) -> None:
    stop = StopStudy(folder)
    assert not stop("1", {"refused": FULL, "key": KEY})
    assert not stop.stop_all()
    assert not list(folder.running_folder(KEY).iterdir())


def test_a_folder_that_this_process_cannot_write_either_stops_all(folder: StudyFolder) -> None:
    (folder.root / "trials").write_text("in the way")
    stop = StopStudy(folder)
    assert stop("1", {"refused": FULL, "key": KEY})
    assert stop.error is FULL


def test_a_trial_stored_where_the_driver_cannot_see_it_stops_all(folder: StudyFolder) -> None:
    stop = StopStudy(folder)
    assert stop("1", STORED)
    assert "off-the-shelf fold 0" in str(stop.error)
    assert "a folder that all nodes share" in str(stop.error)


def test_a_lost_lock_stops_all(folder: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost() -> None:
        raise FULL

    write_record(folder.trial_folder(KEY) / "trial.json", trial_record(*KEY))
    assert not StopStudy(folder)("1", STORED)
    monkeypatch.setattr(folder, "check_held", lost)
    stop = StopStudy(folder)
    assert stop("1", STORED)
    assert stop.error is FULL


def reported(*results: dict[str, Any], recovers: bool = False) -> list[str]:
    """What the user reads after one trial reported `results` and then failed."""
    output, trial = RecordedProgress(), SimpleNamespace(config={"trial": tuple(KEY)})
    progress = TuneProgress(StudyProgress(output))
    for result in results:
        progress.on_trial_result(trial=trial, result=result)
    if recovers:
        progress.on_trial_recover(trial=trial)
    progress.on_trial_error(trial=trial)
    return output.messages


def test_a_failed_trial_is_reported_with_its_reason_and_a_lost_one_is_not() -> None:
    """A process that dies, alone or with its node, reports nothing."""
    assert reported({"failure": "no room"}) == ["FAILED off-the-shelf fold 0: no room"]
    assert reported({"note": "too large"}) == ["too large"]


def test_a_trial_that_is_lost_when_it_is_tried_again_is_not_reported_with_its_earlier_failure() -> None:
    assert reported({"failure": "no room"}, recovers=True) == ["off-the-shelf fold 0 failed and is tried again"]

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment import Trial

from cxr_platform.domain.study import TrialKey
from cxr_platform.errors import ConfigError, StorageError
from cxr_platform.training import tune_hooks
from cxr_platform.training.folder import StudyFolder
from cxr_platform.training.progress import StudyProgress
from cxr_platform.training.tune_hooks import START_SECONDS, PlannedOrder, StopStudy, TuneProgress
from tests.recorded_progress import RecordedProgress
from tests.study_records import trial_record, write_record
from tests.training.builders import tiny_study

KEY = TrialKey("off-the-shelf", 0)
STORED = {"record": trial_record("off-the-shelf")}
FULL = StorageError("Expected room.")


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return tiny_study(tmp_path, ("off-the-shelf",)).folder


class ToldOrder:
    """An order that Tune has told of the trials `names`; `places` and `clock` can be set."""

    def __init__(self, names: str, places: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.places, self.counts, self.clock = places, 0, 1000.0
        self.trials = {name: SimpleNamespace(trial_id=name, status=Trial.PENDING) for name in names}
        monkeypatch.setattr(tune_hooks, "time", SimpleNamespace(monotonic=lambda: self.clock))
        self.order = PlannedOrder(self.count)
        for trial in self.trials.values():
            self.order.on_trial_add(None, trial)

    def count(self) -> int:
        self.counts += 1
        return self.places

    def get_live_trials(self) -> list[Any]:
        return list(self.trials.values())

    def put_back(self, name: str) -> None:
        self.set_status(name, Trial.PENDING)
        self.order.on_trial_add(None, self.trials[name])

    def set_status(self, names: str, status: str) -> None:
        for name in names:
            self.trials[name].status = status

    def choose(self) -> str | None:
        trial = self.order.choose_trial_to_run(self)
        return None if trial is None else str(trial.trial_id)


def test_a_trial_that_was_put_back_runs_before_those_that_have_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    tune = ToldOrder("abc", 1, monkeypatch)
    assert tune.choose() == "a"
    tune.set_status("ab", Trial.RUNNING)
    assert tune.choose() == "c"
    tune.put_back("a")
    assert tune.choose() == "a"
    tune.set_status("abc", Trial.TERMINATED)
    assert tune.choose() is None


def test_a_trial_that_was_put_back_is_kept_for_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray starts a process for d, the next of the first requests, when that of a dies; then b ends."""
    tune = ToldOrder("abcde", 3, monkeypatch)
    tune.set_status("abc", Trial.RUNNING)
    tune.put_back("a")
    tune.set_status("b", Trial.TERMINATED)
    assert tune.choose() == "a"


def test_a_free_process_takes_no_trial_for_which_another_process_may_be_starting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of five places two run a trial, one has become free: processes for c and d may be starting at the other two."""
    tune = ToldOrder("abcdef", 5, monkeypatch)
    tune.set_status("ab", Trial.RUNNING)
    assert tune.choose() == "e"
    tune.set_status("cd", Trial.RUNNING)
    assert tune.choose() == "e", "all places but the free one are busy: the order of the plan"
    tune.set_status("e", Trial.RUNNING)
    assert tune.choose() == "f"


def test_the_first_trials_are_requested_in_the_order_of_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ToldOrder("abc", 2, monkeypatch).choose() == "a"


def test_when_only_such_trials_wait_the_last_one_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a choice Tune gives a free process any of them."""
    tune = ToldOrder("abc", 5, monkeypatch)
    tune.set_status("a", Trial.RUNNING)
    assert tune.choose() == "c"


def test_a_trial_is_not_kept_for_a_process_that_does_not_start_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Places that are taken by other work count as free, so that nothing would ever start on them."""
    tune = ToldOrder("abcd", 3, monkeypatch)
    tune.set_status("a", Trial.RUNNING)
    assert tune.choose() == "c"
    tune.clock += START_SECONDS - 1
    assert tune.choose() == "c"
    tune.clock += 2
    assert tune.choose() == "b"


def test_new_places_are_waited_for_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    tune = ToldOrder("abcd", 3, monkeypatch)
    tune.set_status("a", Trial.RUNNING)
    tune.choose()
    tune.clock += START_SECONDS + 1
    tune.places = 4
    assert tune.choose() == "d", "a node has come: processes for b and c may be starting there"


def test_places_are_counted_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    tune = ToldOrder("abcd", 1, monkeypatch)
    tune.set_status("a", Trial.RUNNING)
    for _ in range(5):
        assert tune.choose() == "b"
    assert tune.counts == 1
    tune.places = 3
    tune.clock += 1.5
    assert tune.choose() == "c"
    assert tune.counts == 2


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

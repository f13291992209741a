import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.exceptions import RayActorError
from ray.tune.experiment import Trial

from cxr_platform.domain.study import TrialKey
from cxr_platform.errors import ConfigError, StorageError
from cxr_platform.training.folder import StudyFolder
from cxr_platform.training.progress import Progress
from cxr_platform.training.tune_hooks import InOrder, Stop, Watch
from tests.study_records import trial_record, write_record
from tests.training.builders import tiny_study

KEY = TrialKey("off-the-shelf", 0)
STORED = {"record": trial_record("off-the-shelf")}
FULL = StorageError("Expected room.")


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return tiny_study(tmp_path, ("off-the-shelf",)).folder


def controller(*trials: tuple[str, str]) -> SimpleNamespace:
    listed = [SimpleNamespace(trial_id=name, status=status) for name, status in trials]
    return SimpleNamespace(get_trials=lambda: listed)


def test_a_trial_that_was_put_back_comes_before_those_that_have_not_begun() -> None:
    order = InOrder()
    for name in ("a", "b", "c", "a"):  # the last time as Tune does when it requeues one
        order.on_trial_add(None, SimpleNamespace(trial_id=name))
    lost_is_last = controller(("b", Trial.RUNNING), ("c", Trial.PENDING), ("a", Trial.PENDING))
    assert order.choose_trial_to_run(lost_is_last).trial_id == "a"
    assert order.choose_trial_to_run(controller(("b", Trial.RUNNING))) is None


def test_what_no_other_trial_would_escape_ends_all(folder: StudyFolder) -> None:
    stop, refused = Stop(folder), ConfigError("Expected another profile.")
    assert stop("1", {"refused": refused, "key": KEY})
    assert stop.stop_all()
    assert stop.error is refused


def test_a_place_that_only_one_node_cannot_write_ends_nothing(folder: StudyFolder) -> None:
    stop = Stop(folder)
    assert not stop("1", {"refused": FULL, "key": KEY})
    assert not stop.stop_all()
    assert not list(folder.running_folder(KEY).iterdir())


def test_a_place_that_this_process_cannot_write_either_ends_all(folder: StudyFolder) -> None:
    (folder.root / "trials").write_text("in the way")
    stop = Stop(folder)
    assert stop("1", {"refused": FULL, "key": KEY})
    assert stop.error is FULL


def test_the_first_trial_that_was_stored_out_of_sight_ends_all(folder: StudyFolder) -> None:
    stop = Stop(folder)
    assert stop("1", STORED)
    assert "off-the-shelf fold 0" in str(stop.error)
    assert "a folder that all nodes share" in str(stop.error)


def test_a_study_that_is_another_process_s_by_now_is_left_to_it(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost() -> None:
        raise FULL

    write_record(folder.trial_folder(KEY) / "trial.json", trial_record(*KEY))
    assert not Stop(folder)("1", STORED)
    monkeypatch.setattr(folder, "check_held", lost)
    stop = Stop(folder)
    assert stop("1", STORED)
    assert stop.error is FULL


class Heard(Progress):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


def failed(tmp_path: Path, error: Exception) -> list[str]:
    heard = Heard()
    (tmp_path / "error.pkl").write_bytes(pickle.dumps(error))
    trial = SimpleNamespace(config={"trial": tuple(KEY)}, pickled_error_file=str(tmp_path / "error.pkl"))
    Watch(heard).on_trial_error(trial=trial)
    return heard.lines


def test_a_trial_that_failed_is_told_with_its_reason_and_one_that_was_lost_is_not_yet(tmp_path: Path) -> None:
    assert failed(tmp_path, OSError("trace\nno room")) == ["FAILED off-the-shelf fold 0: no room"]
    assert failed(tmp_path, RayActorError()) == []


def test_an_error_that_cannot_be_read_is_told_as_such(tmp_path: Path) -> None:
    heard = Heard()
    trial = SimpleNamespace(config={"trial": tuple(KEY)}, pickled_error_file=str(tmp_path / "none"))
    Watch(heard).on_trial_error(trial=trial)
    assert heard.lines == ["FAILED off-the-shelf fold 0: no error message"]

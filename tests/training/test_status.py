import json
import shutil
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from cxr_platform.domain.study import TrialKey
from cxr_platform.errors import ConfigError, StudyError
from cxr_platform.training.heartbeat import Running
from cxr_platform.training.plan import Share
from cxr_platform.training.status import StudyStatus, read_status
from tests.training.running_study import NOW, STRATEGIES, ago, begin, finish, run


def status(root: Any) -> StudyStatus:
    return read_status(root, NOW)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Six trials: two finished, two running, one of which is silent, and two that wait."""
    root = begin(tmp_path / "images")
    finish(root, "scratch", 0)
    finish(root, "scratch", 1, node="c")
    run(root, "fine-tuning-1", 0)
    run(root, "fine-tuning-1", 1, node="c", updated=ago(minutes=6))
    return root


def test_every_trial_is_in_one_state(study: Path) -> None:
    found = status(study)

    assert found.counts() == {"finished": 2, "running": 1, "stalled": 1, "waiting": 2, "unreadable": 0}
    assert found.trials == 6
    assert list(found.finished) == [TrialKey("scratch", 0), TrialKey("scratch", 1)]
    assert [trial.key for trial in found.running] == [TrialKey("fine-tuning-1", 0)]
    assert [trial.key for trial in found.stalled] == [TrialKey("fine-tuning-1", 1)]
    assert found.waiting == [TrialKey("off-the-shelf", 0), TrialKey("off-the-shelf", 1)]


def test_a_trial_that_has_just_begun_runs(tmp_path: Path) -> None:
    root, key = begin(tmp_path / "s", ("scratch",)), TrialKey("scratch", 0)
    with Running(root / "trials" / "scratch" / "fold-0.run", key, 12, Share(2.0, 0.25), 60.0) as trial:
        trial.begin()
        found = read_status(root, datetime.now(timezone.utc))
    assert found.counts() == {"finished": 0, "running": 1, "stalled": 0, "waiting": 1, "unreadable": 0}
    assert found.running[0].share_left == 1.0


def test_trials_by_node_and_by_strategy(study: Path) -> None:
    found = status(study)

    assert found.by_node() == {"a": {"finished": 1}, "b": {"running": 1}, "c": {"finished": 1, "stalled": 1}}
    assert found.by_strategy() == {
        "fine-tuning-1": {"running": 1, "stalled": 1},
        "off-the-shelf": {"waiting": 2},
        "scratch": {"finished": 2},
    }


@pytest.mark.parametrize(("silent", "state"), [(299, "running"), (300, "running"), (301, "stalled")])
def test_after_five_minutes_of_silence_a_trial_is_stalled(tmp_path: Path, silent: int, state: str) -> None:
    root = begin(tmp_path / "s", ("scratch",))
    run(root, "scratch", 0, updated=ago(seconds=silent))

    assert status(root).counts()[state] == 1


def test_a_node_whose_clock_is_ahead_is_not_stalled(tmp_path: Path) -> None:
    root = begin(tmp_path / "s", ("scratch",))
    run(root, "scratch", 0, updated=ago(seconds=-30))

    assert status(root).counts()["running"] == 1


def test_a_trial_that_ended_while_it_was_looked_at_is_finished(tmp_path: Path) -> None:
    root = begin(tmp_path / "s", ("scratch",))
    run(root, "scratch", 0)
    finish(root, "scratch", 0)

    assert status(root).counts() == {"finished": 1, "running": 0, "stalled": 0, "waiting": 1, "unreadable": 0}


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"node": "b"}', {"epoch": 5}, {"epoch": -1}, {"epochs": 0}, {"updated": "now"}, {"cpus": None}],
)
def test_a_damaged_state_is_counted_and_not_fatal(study: Path, content: str | dict[str, Any]) -> None:
    file = study / "trials" / "fine-tuning-1" / "fold-0.run" / "state.json"
    if isinstance(content, dict):
        content = json.dumps({**json.loads(file.read_text()), **content})
    file.write_text(content)
    found = status(study)

    assert found.unreadable == [TrialKey("fine-tuning-1", 0)]
    assert found.counts() == {"finished": 2, "running": 0, "stalled": 1, "waiting": 2, "unreadable": 1}


def test_a_damaged_trial_is_counted_and_not_fatal(study: Path) -> None:
    (study / "trials" / "scratch" / "fold-0" / "trial.json").write_text("{")

    assert status(study).unreadable == [TrialKey("scratch", 0)]


def test_trials_of_no_strategy_or_fold_of_the_study_are_left_aside(study: Path) -> None:
    finish(study, "fine-tuning-11", 0)
    finish(study, "scratch", 2)
    run(study, "fine-tuning-1", 2)

    assert status(study).trials == 6


def test_an_older_study_s_trials_have_their_node_and_no_share(tmp_path: Path) -> None:
    root = begin(tmp_path / "s", ("scratch",))
    finish(root, "scratch", 0, started=None, cpus=None, gpus=None)
    finish(root, "scratch", 1, node=None)

    assert status(root).by_node() == {"a": {"finished": 1}, "not recorded": {"finished": 1}}


def test_a_study_that_has_just_begun_waits(tmp_path: Path) -> None:
    assert status(begin(tmp_path / "s")).counts()["waiting"] == 2 * len(STRATEGIES)


class OnlyWhatAStoreHas:
    """A root with what the reader may call, and nothing else of a Path."""

    def __init__(self, place: Path) -> None:
        self._place = place

    name = property(lambda self: self._place.name)
    parent = property(lambda self: OnlyWhatAStoreHas(self._place.parent))

    def __truediv__(self, part: str) -> "OnlyWhatAStoreHas":
        return OnlyWhatAStoreHas(self._place / part)

    def __str__(self) -> str:
        return f"store://{self._place}"

    def exists(self) -> bool:
        return self._place.exists()

    def glob(self, pattern: str) -> "list[OnlyWhatAStoreHas]":
        return [OnlyWhatAStoreHas(place) for place in self._place.glob(pattern)]

    def read_text(self, encoding: str) -> str:
        return self._place.read_text(encoding=encoding)


def test_the_root_need_not_be_a_folder_of_this_machine(study: Path) -> None:
    assert status(OnlyWhatAStoreHas(study)) == status(study)
    with pytest.raises(StudyError, match=r"in store://.*absent"):
        status(OnlyWhatAStoreHas(study) / "absent")


def test_no_study_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"no study\.json"):
        status(tmp_path)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"strategies": None}, StudyError, "expected strategies out of"),
        ({"strategies": ["scratch", "trane"]}, StudyError, "trane"),
        ({"profile": {"name": "quick"}}, ConfigError, "missing folds"),
    ],
)
def test_a_description_of_another_form_is_refused(
    study: Path, change: dict[str, Any], error: type[Exception], words: str
) -> None:
    tree = json.loads((study / "study.json").read_text())
    (study / "study.json").write_text(json.dumps({**tree, **change}))
    with pytest.raises(error, match=words):
        status(study)


def test_nothing_is_written(study: Path, tmp_path: Path) -> None:
    shutil.copytree(study, tmp_path / "copy")
    status(study)

    before, after = (sorted(p.relative_to(r) for p in r.rglob("*")) for r in (tmp_path / "copy", study))
    assert before == after

import json
import os
import shutil
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from cxr_platform.domain.study import TrialKey
from cxr_platform.errors import StudyError
from cxr_platform.training.plan import Share, relative_cost
from cxr_platform.training.running_trial import TrialHeartbeat
from cxr_platform.training.status import Cost, StudyStatus, TimeLeft, cpu_hours, gpu_hours, read_status, time_left
from tests.storage.object_store import folder
from tests.study_records import trial_state
from tests.training.builders import tiny_profile
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
    result = status(study)

    assert result.counts() == {"finished": 2, "running": 1, "stalled": 1, "waiting": 2, "unreadable": 0}
    assert result.trials == 6
    assert list(result.finished) == [TrialKey("scratch", 0), TrialKey("scratch", 1)]
    assert [trial.key for trial in result.running] == [TrialKey("fine-tuning-1", 0)]
    assert [trial.key for trial in result.stalled] == [TrialKey("fine-tuning-1", 1)]
    assert result.waiting == [TrialKey("off-the-shelf", 0), TrialKey("off-the-shelf", 1)]


def test_a_trial_that_has_just_begun_is_running(tmp_path: Path) -> None:
    root, key = begin(tmp_path / "s", ("scratch",)), TrialKey("scratch", 0)
    folder = root / "trials" / "scratch" / "fold-0.run"
    with TrialHeartbeat(folder, key, 12, Share(2.0, 0.25), 60.0, {}) as trial:
        trial.begin()
        result = read_status(root, datetime.now(timezone.utc))
    assert result.counts() == {"finished": 0, "running": 1, "stalled": 0, "waiting": 1, "unreadable": 0}
    assert result.running[0].remaining == 1.0


def test_trials_by_node_and_by_strategy(study: Path) -> None:
    result = status(study)

    assert result.by_node() == {"a": {"finished": 1}, "b": {"running": 1}, "c": {"finished": 1, "stalled": 1}}
    assert result.by_strategy() == {
        "fine-tuning-1": {"running": 1, "stalled": 1},
        "off-the-shelf": {"waiting": 2},
        "scratch": {"finished": 2},
    }


@pytest.mark.parametrize(("silent", "state"), [(299, "running"), (300, "running"), (301, "stalled")])
def test_a_trial_with_a_state_older_than_five_minutes_is_stalled(tmp_path: Path, silent: int, state: str) -> None:
    root = begin(tmp_path / "s", ("scratch",))
    run(root, "scratch", 0, updated=ago(seconds=silent))

    assert status(root).counts()[state] == 1


@pytest.mark.parametrize("minutes", [-6, 6])
def test_the_clock_of_a_node_does_not_matter(tmp_path: Path, minutes: int) -> None:
    """The file was written 20 seconds ago, whatever the node states in it."""
    root = begin(tmp_path / "s", ("scratch",))
    file = run(root, "scratch", 0)
    times = file.stat().st_mtime, file.stat().st_mtime
    file.write_bytes(trial_state("scratch", 0, updated=ago(minutes=-minutes)).to_json())
    os.utime(file, times)

    assert status(root).counts()["running"] == 1
    assert status(root).running[0].updated == ago(seconds=20)


def test_a_reader_whose_clock_is_behind_sees_who_is_stalled(study: Path) -> None:
    result = read_status(study, ago(minutes=5))

    assert result.at == ago(seconds=20)
    assert [trial.key for trial in result.stalled] == [TrialKey("fine-tuning-1", 1)]


def test_a_trial_with_both_records_is_finished(tmp_path: Path) -> None:
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
    result = status(study)

    assert result.unreadable == [TrialKey("fine-tuning-1", 0)]
    assert result.counts() == {"finished": 2, "running": 0, "stalled": 1, "waiting": 2, "unreadable": 1}


def test_a_damaged_trial_is_counted_and_not_fatal(study: Path) -> None:
    (study / "trials" / "scratch" / "fold-0" / "trial.json").write_text("{")

    assert status(study).unreadable == [TrialKey("scratch", 0)]


def test_trials_that_are_not_in_the_study_are_ignored(study: Path) -> None:
    finish(study, "fine-tuning-11", 0)
    finish(study, "scratch", 2)
    run(study, "fine-tuning-1", 2)

    assert status(study).trials == 6


def test_a_study_that_has_just_begun_waits(tmp_path: Path) -> None:
    assert status(begin(tmp_path / "s")).counts()["waiting"] == 2 * len(STRATEGIES)


@pytest.mark.usefixtures("store")
def test_a_study_in_an_object_store_has_the_status_of_its_copy_here(study: Path) -> None:
    root = folder("status/images")
    for file in filter(Path.is_file, study.rglob("*")):
        (root / file.relative_to(study).as_posix()).write_bytes(file.read_bytes())
    there, here = read_status(root, datetime.now(timezone.utc)), status(study)
    assert (there.finished, there.waiting, there.unreadable) == (here.finished, here.waiting, here.unreadable)
    assert {trial.key for trial in there.running} == {trial.key for trial in here.begun}, "dated by the store"
    with pytest.raises(StudyError, match=r"at s3://.*absent"):
        status(root / "absent")


def test_a_missing_study_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"study\.json.*no such file"):
        status(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"strategies": None}, "strategies: expected a"),
        ({"strategies": ["scratch", "trane"]}, "trane"),
        ({"profile": {"name": "quick"}}, "missing folds"),
    ],
)
def test_a_study_record_of_another_form_is_refused(study: Path, change: dict[str, Any], words: str) -> None:
    tree = json.loads((study / "study.json").read_text())
    (study / "study.json").write_text(json.dumps({**tree, **change}))
    with pytest.raises(StudyError, match=words):
        status(study)


def test_nothing_is_written(study: Path, tmp_path: Path) -> None:
    shutil.copytree(study, tmp_path / "copy")
    status(study)

    before, after = (sorted(p.relative_to(r) for p in r.rglob("*")) for r in (tmp_path / "copy", study))
    assert before == after


def test_trials_of_a_known_strategy_take_the_mean_of_its_finished_ones(tmp_path: Path) -> None:
    root = begin(tmp_path / "s", ("scratch",), folds=6)
    finish(root, "scratch", 0, 100)
    finish(root, "scratch", 1, 140)
    run(root, "scratch", 2)  # a quarter is done
    run(root, "scratch", 3)

    assert time_left(status(root)) == TimeLeft(seconds=210.0, work_seconds=420.0, at_once=2, guessed=())


def test_trials_of_a_strategy_not_seen_yet_are_guessed_by_their_relative_cost(tmp_path: Path) -> None:
    root = begin(tmp_path / "s", ("scratch", "fine-tuning-1"))
    finish(root, "scratch", 0, 100)
    run(root, "scratch", 1)
    pace = 100 / relative_cost(tiny_profile(), "scratch")

    left = time_left(status(root))
    assert left.guessed == ("fine-tuning-1",)
    assert left.work_seconds == pytest.approx(75 + 2 * pace * relative_cost(tiny_profile(), "fine-tuning-1"))


def test_a_strategy_with_nothing_left_is_not_guessed(tmp_path: Path) -> None:
    root = begin(tmp_path / "s", ("scratch", "off-the-shelf"))
    for fold in (0, 1):
        finish(root, "off-the-shelf", fold, 10)
    finish(root, "scratch", 0, 100)
    run(root, "scratch", 1)

    assert time_left(status(root)).guessed == ()


def test_the_time_left_is_at_least_that_of_the_longest_trial(tmp_path: Path) -> None:
    root = begin(tmp_path / "s", ("scratch", "off-the-shelf"))
    finish(root, "scratch", 0, 100)
    finish(root, "off-the-shelf", 0, 4)
    run(root, "scratch", 1)
    run(root, "off-the-shelf", 1)

    left = time_left(status(root))
    assert (left.work_seconds, left.seconds) == (78.0, 75.0)


def test_stalled_trials_count_as_work_but_not_as_running(tmp_path: Path) -> None:
    root = begin(tmp_path / "s", ("scratch",), folds=3)
    finish(root, "scratch", 0, 100)
    run(root, "scratch", 1)
    run(root, "scratch", 2, updated=ago(hours=1))

    assert time_left(status(root)) == TimeLeft(150.0, 150.0, 1, ())


def test_before_any_trial_is_finished_running_trials_give_the_pace(tmp_path: Path) -> None:
    root = begin(tmp_path / "s", ("scratch",))
    run(root, "scratch", 0)  # a quarter in 50 seconds
    run(root, "scratch", 1, epoch=0, seconds=0.0)

    assert time_left(status(root)) == TimeLeft(200.0, 350.0, 2, ("scratch",))
    assert cpu_hours(status(root)).expected == pytest.approx(2 * 400 / 3600)


def test_nothing_is_known_before_the_end_of_an_epoch(tmp_path: Path) -> None:
    root = begin(tmp_path / "s", ("scratch",))
    run(root, "scratch", 0, epoch=0, seconds=0.0)

    assert time_left(status(root)) == TimeLeft(None, None, 1, ("scratch",))
    assert cpu_hours(status(root)) == Cost(0.0, None)


def test_a_study_without_running_trials_has_work_left_and_no_time(tmp_path: Path) -> None:
    root = begin(tmp_path / "s", ("scratch",))
    finish(root, "scratch", 0, 100)

    assert time_left(status(root)) == TimeLeft(None, 100.0, 0, ())


def test_a_finished_study_has_no_time_left(tmp_path: Path) -> None:
    root = begin(tmp_path / "s", ("scratch",))
    for fold in (0, 1):
        finish(root, "scratch", fold, 1800)

    assert time_left(status(root)) == TimeLeft(0.0, 0, 0, ())
    assert cpu_hours(status(root)) == Cost(2.0, 2.0)
    assert gpu_hours(status(root)) == Cost(0.25, 0.25)


def test_cost_so_far_and_when_finished(tmp_path: Path) -> None:
    root = begin(tmp_path / "s", ("scratch",), folds=4)
    finish(root, "scratch", 0, 3600)
    run(root, "scratch", 1, seconds=900)
    run(root, "scratch", 2, seconds=900, updated=ago(hours=1))

    cost = gpu_hours(status(root))
    assert cost.so_far == pytest.approx(0.25 * (1 + 0.25 + 0.25))
    assert cost.expected == pytest.approx(0.25 * (1.5 + 0.75 + 0.75 + 1))


def test_without_a_gpu_there_are_no_gpu_hours(tmp_path: Path) -> None:
    root = begin(tmp_path / "s", ("scratch",))
    finish(root, "scratch", 0, 3600, gpus=0.0)

    assert gpu_hours(status(root)) == Cost(0.0, 0.0)


def test_a_study_that_has_not_begun_has_no_cost(tmp_path: Path) -> None:
    assert cpu_hours(status(begin(tmp_path / "s"))) == Cost(0.0, None)

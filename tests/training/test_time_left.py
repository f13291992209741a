from pathlib import Path

import pytest

from cxr_platform.training.plan import relative_cost
from cxr_platform.training.status import StudyStatus, read_status
from cxr_platform.training.time_left import Cost, TimeLeft, cpu_hours, gpu_hours, time_left
from tests.training.builders import tiny_profile
from tests.training.running_study import NOW, ago, begin, finish, run


def status(root: Path) -> StudyStatus:
    return read_status(root, NOW)


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


def test_no_strategy_is_guessed_of_which_nothing_is_left(tmp_path: Path) -> None:
    root = begin(tmp_path / "s", ("scratch", "off-the-shelf"))
    for fold in (0, 1):
        finish(root, "off-the-shelf", fold, 10)
    finish(root, "scratch", 0, 100)
    run(root, "scratch", 1)

    assert time_left(status(root)).guessed == ()


def test_it_takes_no_less_than_the_longest_trial(tmp_path: Path) -> None:
    root = begin(tmp_path / "s", ("scratch", "off-the-shelf"))
    finish(root, "scratch", 0, 100)
    finish(root, "off-the-shelf", 0, 4)
    run(root, "scratch", 1)
    run(root, "off-the-shelf", 1)

    left = time_left(status(root))
    assert (left.work_seconds, left.seconds) == (78.0, 75.0)


def test_stalled_trials_are_work_but_not_pace(tmp_path: Path) -> None:
    root = begin(tmp_path / "s", ("scratch",), folds=3)
    finish(root, "scratch", 0, 100)
    run(root, "scratch", 1)
    run(root, "scratch", 2, updated=ago(hours=1))

    assert time_left(status(root)) == TimeLeft(150.0, 150.0, 1, ())


def test_before_a_trial_has_finished_those_that_run_tell_the_pace(tmp_path: Path) -> None:
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


def test_a_study_that_does_not_run_has_work_left_and_no_time(tmp_path: Path) -> None:
    root = begin(tmp_path / "s", ("scratch",))
    finish(root, "scratch", 0, 100)

    assert time_left(status(root)) == TimeLeft(None, 100.0, 0, ())


def test_a_finished_study_needs_nothing_more(tmp_path: Path) -> None:
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


def test_without_a_gpu_nothing_is_paid_for_one(tmp_path: Path) -> None:
    root = begin(tmp_path / "s", ("scratch",))
    finish(root, "scratch", 0, 3600, gpus=0.0)

    assert gpu_hours(status(root)) == Cost(0.0, 0.0)


def test_what_an_older_trial_did_not_record_is_not_guessed(tmp_path: Path) -> None:
    root = begin(tmp_path / "s", ("scratch",), folds=3)
    finish(root, "scratch", 0, 3600, cpus=None, gpus=None)
    finish(root, "scratch", 1, 3600)

    assert cpu_hours(status(root)) == gpu_hours(status(root)) == Cost(None, None)
    assert time_left(status(root)).work_seconds == 3600


def test_a_study_without_a_sign_of_life_has_cost_nothing(tmp_path: Path) -> None:
    assert cpu_hours(status(begin(tmp_path / "s"))) == Cost(0.0, None)

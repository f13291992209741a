import pytest

from cxr_platform.domain.study import TrialKey
from cxr_platform.training.progress import Clock, LiveStudyProgress, StudyProgress
from cxr_platform.training.trial import Epoch
from tests.recorded_progress import RecordedProgress
from tests.study_records import trial_record

A, B = TrialKey("scratch", 0), TrialKey("off-the-shelf", 1)


def test_the_time_left_follows_from_the_share_of_work_done() -> None:
    times = iter([5.0, 35.0])
    clock = Clock({A: 3.0, B: 1.0}, now=lambda: next(times))
    clock.start()
    clock.advance(A, 1.0)
    assert clock.seconds_left() == pytest.approx(10.0)


def test_work_of_an_earlier_run_does_not_count_for_the_pace() -> None:
    times = iter([0.0, 10.0])
    clock = Clock({A: 2.0}, now=lambda: next(times))
    clock.start()
    clock.advance(A, 0.75, before=0.5)
    assert clock.seconds_left() == pytest.approx(10.0)


def test_before_any_work_there_is_no_estimate() -> None:
    assert Clock({A: 1.0}).seconds_left() is None


def test_a_short_trial_among_long_ones_says_nothing_about_the_time_left() -> None:
    times = iter([0.0, 60.0])
    clock = Clock({A: 0.03, B: 57.0}, now=lambda: next(times))
    clock.start()
    clock.advance(A, 1.0)
    assert clock.seconds_left() is None
    clock.advance(B, 0.5)
    assert clock.seconds_left() == pytest.approx(60.0, rel=0.01)


def test_a_finished_trial_is_a_message_with_its_number() -> None:
    output = RecordedProgress()
    progress = StudyProgress(output)
    progress.begin({A: 1.0, B: 1.0}, already_done=3)
    progress.epoch(A, Epoch(1, 2, 0.7, 0.4, 0.001, 1.0))
    progress.finished(trial_record(*A, seconds=12.3))
    progress.failed(B, "OSError: disk")
    progress.step("Frozen activations", 1, 2)
    lines = output.messages
    assert lines[0] == "2 trials to run, 3 kept from before"
    assert lines[1].startswith("4/5 scratch fold 0: accuracy 0.500 (12 s)")
    assert lines[2] == "FAILED off-the-shelf fold 1: OSError: disk"
    assert output.steps == [("Frozen activations", 1, 2)]


def test_every_epoch_and_every_ended_trial_is_an_advance() -> None:
    progress, advances = StudyProgress(), []
    progress.on_advance = lambda: advances.append(1)
    progress.begin({A: 1.0, B: 1.0}, already_done=0)
    assert not advances
    progress.training_begins()
    progress.epoch(A, Epoch(1, 2, 0.7, 0.4, 0.001, 1.0))
    progress.finished(trial_record(*A))
    progress.failed(B, "OSError: disk")
    assert len(advances) == 4


def test_a_line_that_several_trials_report_is_written_once() -> None:
    output = RecordedProgress()
    progress = StudyProgress(output)
    for text in ("too large", "too large", "slow"):
        progress.note(text)
    assert output.messages == ["too large", "slow"]


def test_live_progress_shows_running_trials_with_epoch_and_accuracy() -> None:
    progress = LiveStudyProgress()
    progress.running[A] = Epoch(1, 2, 0.7, 0.4, 0.001, 1.0)
    table = progress.table()
    cells = [next(iter(column.cells)) for column in table.columns]
    assert cells == ["scratch fold 0", "1/2", "0.700", "0.400"]

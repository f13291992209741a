from pathlib import Path

import pytest
from rich.console import Console

from cxr_platform.training.status import StudyStatus, read_status
from pipelines.study_tables import SHOWN, duration, status_lines, status_tables
from tests.training.running_study import NOW, ago, begin, finish, run


def printed(status: StudyStatus) -> str:
    console = Console(width=120, record=True, markup=False)
    for part in (*status_tables(status), *status_lines(status)):
        console.print(part)
    return console.export_text()


def test_a_stalled_trial_is_named_with_its_silence(tmp_path: Path) -> None:
    root = begin(tmp_path / "s", ("scratch",))
    run(root, "scratch", 0, updated=ago(minutes=12))
    text = printed(read_status(root, NOW))

    assert "12 min ago" in text
    assert "1 stalled: nothing heard for five minutes, their node was probably lost." in text
    assert "by the epochs so far of those that run" in text


def test_before_the_end_of_an_epoch_no_time_is_known(tmp_path: Path) -> None:
    root = begin(tmp_path / "s", ("scratch",))
    run(root, "scratch", 0, epoch=0, seconds=0.0)
    assert "not known before the end of an epoch" in printed(read_status(root, NOW))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    root = begin(tmp_path / "s", ("scratch",))
    run(root, "scratch", 1).write_text("{")
    text = printed(read_status(root, NOW))

    assert "1 with a damaged file, taken as not begun: scratch fold 1." in text
    assert "unreadable" in text


def test_a_finished_study_says_so(tmp_path: Path) -> None:
    root = begin(tmp_path / "s", ("scratch",))
    for fold in (0, 1):
        finish(root, "scratch", fold)
    text = printed(read_status(root, NOW))

    assert "s: 2/2 trials" in text
    assert "every trial is finished" in text
    assert "Not finished" not in text


def test_many_running_trials_are_cut_short_and_that_is_said(tmp_path: Path) -> None:
    root = begin(tmp_path / "s", ("scratch",), folds=SHOWN + 5)
    for fold in range(SHOWN + 5):
        run(root, "scratch", fold)
    text = printed(read_status(root, NOW))

    assert f"the first {SHOWN} of {SHOWN + 5}" in text
    assert text.count("1/4") == SHOWN


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h"), (360000, "100.0 h")],
)
def test_durations_have_the_unit_that_a_person_would_use(seconds: float, text: str) -> None:
    assert duration(seconds) == text

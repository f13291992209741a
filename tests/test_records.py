import json
from datetime import datetime, timezone
from pathlib import Path

import pytest

from cxr_platform.errors import StudyError
from cxr_platform.records import FinishedTrial, finished_trials, moment, read_description, read_trial_files

TIMES = {"started": "2026-11-24T10:00:00+00:00", "finished": "2026-11-24T10:01:30+00:00"}
HARDWARE = {"processor": "Xeon", "processors": 16, "gpus": ["RTX 4090", "RTX 4090"]}
OLD = {"seconds": {"total": 80.5}, "images": {"train": 60, "test": 30}, "node": "a"}


def write(root: Path, strategy: str, folder: str, content: object, name: str = "trial.json") -> None:
    place = root / "trials" / strategy / folder
    place.mkdir(parents=True)
    (place / name).write_text(content if isinstance(content, str) else json.dumps(content))


def test_a_finished_trial_says_what_it_took(tmp_path: Path) -> None:
    write(tmp_path, "scratch", "fold-3", {**OLD, **TIMES, "cpus": 2, "gpus": 0.25, "hardware": HARDWARE})

    assert finished_trials(tmp_path, [("scratch", 3)]) == {
        ("scratch", 3): FinishedTrial(
            *("scratch", 3, 80.5, 60, "a"),
            datetime(2026, 11, 24, 10, 0, tzinfo=timezone.utc),
            datetime(2026, 11, 24, 10, 1, 30, tzinfo=timezone.utc),
            *(2.0, 0.25, "16 × Xeon, 2 × RTX 4090"),
        )
    }


def test_what_an_older_study_did_not_record_is_none(tmp_path: Path) -> None:
    write(tmp_path, "scratch", "fold-0", OLD)
    trial = finished_trials(tmp_path, [("scratch", 0)])["scratch", 0]

    assert trial is not None
    assert (trial.seconds, trial.node) == (80.5, "a")
    assert (trial.started, trial.finished, trial.cpus, trial.gpus, trial.machine) == (None,) * 5


@pytest.mark.parametrize("content", ["{", "[]", {}, {"seconds": 3}, {**OLD, "started": "now"}, {**OLD, "gpus": "all"}])
def test_a_damaged_trial_is_told_apart_from_one_that_is_not_there(tmp_path: Path, content: object) -> None:
    write(tmp_path, "scratch", "fold-0", content)

    assert finished_trials(tmp_path, [("scratch", 0), ("scratch", 1)]) == {("scratch", 0): None}


def test_only_whole_trials_of_the_study_count(tmp_path: Path) -> None:
    write(tmp_path, "scratch", "fold-0", OLD)
    write(tmp_path, "scratch", "fold-7", OLD)
    write(tmp_path, "fine-tuning-1", "fold-0", OLD)
    write(tmp_path, "scratch", "fold-1.run", OLD)
    write(tmp_path, "scratch", ".fold-1.0123", OLD)

    assert list(finished_trials(tmp_path, [("scratch", fold) for fold in range(3)])) == [("scratch", 0)]


def test_a_file_that_goes_away_while_it_is_read_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "trials" / "scratch" / "fold-0.run").mkdir(parents=True)
    (tmp_path / "trials" / "scratch" / "fold-0.run" / "state.json").symlink_to("gone")

    assert read_trial_files(tmp_path, "trials/*/*.run/state.json") == {}


def test_the_description_is_study_json(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text('{"name": "a"}')
    assert read_description(tmp_path) == {"name": "a"}


@pytest.mark.parametrize(("content", "words"), [("{", "Expected JSON"), ("[]", "Expected an object")])
def test_a_damaged_description_is_a_study_error(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "study.json").write_text(content)
    with pytest.raises(StudyError, match=words):
        read_description(tmp_path)


def test_no_study_is_a_study_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in ("absent", "file"):
        with pytest.raises(StudyError, match=r"no study\.json"):
            read_description(tmp_path / place)


@pytest.mark.parametrize("text", ["2026-11-24T10:00:00+00:00", "2026-11-24T10:00:00Z", "2026-11-24T11:00:00+01:00"])
def test_times_are_utc_unless_they_say_otherwise(text: str) -> None:
    assert moment(text) == moment("2026-11-24T10:00:00")

import dataclasses
import json
from pathlib import Path

import pytest

from cxr_platform.evaluation.resource_use import (
    ResourceUse,
    machines_line,
    read_resource_use,
    resource_use,
    resource_use_line,
    union_seconds,
)
from cxr_platform.evaluation.study import read_study
from cxr_platform.records import FinishedTrial, moment
from tests.evaluation.builders import drawn_frame, write_study

HARDWARE = {"processor": "Xeon", "processors": 2, "gpus": []}


def at(minute: int) -> str:
    return f"2026-11-24T10:{minute:02d}:00+00:00"


def trial(began: int, ended: int, cpus: float | None = 2.0, gpus: float | None = 0.25) -> FinishedTrial:
    """From minute `began` to minute `ended`, busy all the time."""
    seconds = 60.0 * (ended - began)
    return FinishedTrial("scratch", began, seconds, 60, "a", moment(at(began)), moment(at(ended)), cpus, gpus)


@pytest.mark.parametrize(
    ("spans", "minutes"),
    [
        ([], 0),
        ([(0, 5)], 5),
        ([(0, 5), (5, 8)], 8),
        ([(0, 5), (3, 8)], 8),
        ([(0, 9), (3, 5), (4, 6)], 9),
        ([(20, 25), (0, 5)], 10),
        ([(0, 5), (0, 5)], 5),
    ],
)
def test_seconds_of_intervals_count_once_and_gaps_not_at_all(spans, minutes):
    assert union_seconds((moment(at(a)), moment(at(b))) for a, b in spans) == 60 * minutes


def test_four_on_a_gpu_with_a_pause_between_two_runs():
    found = resource_use([*[trial(0, 10)] * 4, *[trial(30, 40)] * 4])

    assert found == ResourceUse(8, 4800.0, 9600.0, 1200.0, 1200.0, {"not recorded": 8})
    assert found.trials_at_once == 4
    assert found.gpus_at_once == 1


def test_one_trial_that_does_not_say_leaves_no_sum():
    found = resource_use([trial(0, 10), trial(0, 10, gpus=None)])

    assert (found.busy_seconds, found.cpu_seconds, found.gpu_seconds) == (1200.0, 2400.0, None)
    assert found.gpus_at_once is None
    assert resource_use([trial(0, 10), dataclasses.replace(trial(0, 10), started=None)]).wall_seconds is None


def test_one_trial_that_cannot_be_read_leaves_no_sum():
    assert resource_use([trial(0, 10), None]) == ResourceUse(2, machines={"not recorded": 2})


def test_the_machines_are_those_of_the_trials():
    big, small = (dataclasses.replace(trial(0, 10), machine=name) for name in ("64 × EPYC, 8 × H100", "2 × Xeon"))

    found = resource_use([big, big, small, None])
    assert found.machines == {"64 × EPYC, 8 × H100": 2, "2 × Xeon": 1, "not recorded": 1}
    assert machines_line(found).startswith("2 trials on 64 × EPYC, 8 × H100; 1 trials on 2 × Xeon")
    assert machines_line(resource_use([big, big])) == "64 × EPYC, 8 × H100"
    assert machines_line(resource_use([])) == "not recorded"


def test_no_trials_are_not_nought_seconds():
    assert resource_use([]) == ResourceUse(0)
    assert resource_use_line(ResourceUse(0)) == "not recorded"


def test_trials_without_a_length_have_no_ratio():
    assert resource_use([trial(3, 3)]).trials_at_once is None


def test_the_line_for_a_person_is_in_hours():
    assert resource_use_line(resource_use([trial(0, 30), trial(0, 30)])) == (
        "2 trials: 1.00 h of trials in 0.50 h, 2.0 at once on average; 2.00 CPU-hours; 0.25 GPU-hours"
    )


def test_it_is_read_from_the_trials_of_the_study(tmp_path: Path):
    folder = write_study(tmp_path, drawn_frame({"scratch": 0.9}, folds=2))
    for name, fold in (("scratch", 0), ("scratch", 1), ("off-the-shelf", 0)):
        place = folder / "trials" / name / f"fold-{fold}"
        place.mkdir(parents=True)
        facts = {"started": at(0), "finished": at(1), "cpus": 1.0, "gpus": 0.0, "hardware": HARDWARE}
        (place / "trial.json").write_text(json.dumps({"seconds": {"total": 50.0}, **facts}))

    assert read_resource_use(folder, read_study(folder)) == ResourceUse(2, 100.0, 100.0, 0.0, 60.0, {"2 × Xeon": 2})

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from cxr_platform.domain.study import CacheUse, Hardware, TrialRecord, read_study
from cxr_platform.evaluation.resource_use import (
    ResourceUse,
    cache_line,
    machines_line,
    numerics_line,
    read_resource_use,
    resource_use,
    resource_use_line,
    union_seconds,
)
from tests.evaluation.builders import drawn_frame, write_study
from tests.study_records import STARTED, trial_record, write_record

EXACT = "tensorflow, float32, results repeat on the same hardware"


def at(minute: int) -> datetime:
    return STARTED + timedelta(minutes=minute)


def trial(began: int, ended: int, **facts: object) -> TrialRecord:
    """From minute `began` to minute `ended`, busy all the time."""
    seconds = 60.0 * (ended - began)
    return trial_record(seconds=seconds, started=at(began), finished=at(ended), **facts)


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
    assert union_seconds((at(a), at(b)) for a, b in spans) == 60 * minutes


def test_four_on_a_gpu_with_a_pause_between_two_runs():
    use = resource_use([*[trial(0, 10)] * 4, *[trial(30, 40)] * 4])

    assert use == ResourceUse(8, 4800.0, 9600.0, 1200.0, 1200.0, {"2 × Xeon": 8}, {EXACT: 8})
    assert use.trials_at_once == 4
    assert use.gpus_at_once == 1


def test_one_trial_that_cannot_be_read_leaves_no_sum():
    machines = {"2 × Xeon": 1, "unknown": 1}
    assert resource_use([trial(0, 10), None]) == ResourceUse(2, machines=machines, numerics={EXACT: 1})


def test_the_machines_are_those_of_the_trials():
    big, small = (
        trial(0, 10, hardware=Hardware(processor=name, processors=count, gpus=gpus))
        for name, count, gpus in (("EPYC", 64, ("H100",) * 8), ("Xeon", 2, ()))
    )

    use = resource_use([big, big, small, None])
    assert use.machines == {"64 × EPYC, 8 × H100": 2, "2 × Xeon": 1, "unknown": 1}
    assert machines_line(use).startswith("2 trials on 64 × EPYC, 8 × H100; 1 trials on 2 × Xeon")
    assert machines_line(resource_use([big, big])) == "64 × EPYC, 8 × H100"
    assert machines_line(resource_use([])) == "unknown"


def test_backend_precision_and_determinism_are_those_of_the_trials():
    fast = trial(0, 10, backend="jax", precision="mixed_bfloat16", deterministic=False, mps=True)
    assert numerics_line(resource_use([trial(0, 10)] * 2)) == EXACT
    assert numerics_line(resource_use([fast, trial(0, 10)])) == (
        f"1 trials with jax, mixed_bfloat16, not deterministic, GPU shared by MPS; 1 trials with {EXACT}"
    )
    assert numerics_line(resource_use([])) == "unknown"


def test_the_use_of_caches_is_that_of_all_trials_that_state_it():
    stated = trial(0, 10, cache=CacheUse(hits=30, misses=2, fetched_bytes=2**30, evictions=1))
    use = resource_use([stated, stated, trial(0, 10)])  # the last is of an earlier version
    assert use.cache == CacheUse(hits=60, misses=4, fetched_bytes=2**31, evictions=2)
    assert cache_line(use) == "60 of 64 reads found their file, 2 GiB fetched or made, 2 files removed"
    assert cache_line(resource_use([trial(0, 10, cache=CacheUse())])) == "not used"
    assert cache_line(resource_use([trial(0, 10)])) == "unknown"


def test_no_trials_are_not_nought_seconds():
    assert resource_use([]) == ResourceUse(0)
    assert resource_use_line(ResourceUse(0)) == "unknown"


def test_trials_without_a_length_have_no_ratio():
    assert resource_use([trial(3, 3)]).trials_at_once is None


def test_the_line_for_a_person_is_in_hours():
    assert resource_use_line(resource_use([trial(0, 30), trial(0, 30)])) == (
        "2 trials: 1.00 h of trials in 0.50 h, 2.0 at once on average; 2.00 CPU-hours; 0.25 GPU-hours"
    )


def test_it_is_read_from_the_trials_of_the_study(tmp_path: Path):
    folder = write_study(tmp_path, drawn_frame({"scratch": 0.9}, folds=2))
    for name, fold in (("scratch", 0), ("scratch", 1), ("off-the-shelf", 0)):
        record = trial_record(name, fold, 50.0, started=at(0), finished=at(1), cpus=1.0, gpus=0.0)
        write_record(folder / "trials" / name / f"fold-{fold}" / "trial.json", record)

    expected = ResourceUse(2, 100.0, 100.0, 0.0, 60.0, {"2 × Xeon": 2}, {EXACT: 2})
    assert read_resource_use(folder, read_study(folder)) == expected

import os
from collections.abc import Callable
from typing import Any

import pytest

from cxr_platform.errors import StudyError
from pipelines.benchmarks import gpu_measurements
from pipelines.benchmarks.gpu_measurements import Measurement, Training, epochs_between, prepare_step
from tests.pipelines.benchmarks.gpu_builders import Prepared


def counts(first: int, step: int) -> Callable[..., dict[str, Any]]:
    """A measurement that states how often it was repeated, in steps, and with what."""
    state = [first]

    def measure(*arguments: float) -> dict[str, Any]:
        state[0] += step
        return {"number": state[0], "arguments": arguments}

    return measure


def fails() -> Callable[..., dict[str, Any]]:
    raise ValueError("no such device")


def ends() -> Callable[..., dict[str, Any]]:
    os._exit(1)


def test_a_measurement_is_prepared_once_and_repeated_in_its_process() -> None:
    with Measurement(counts, 5, 2) as measurement:
        measurement.wait()
        assert measurement.result() == {"number": 7, "arguments": ()}
        measurement.begin(1.0, 2.0)
        assert measurement.end() == {"number": 9, "arguments": (1.0, 2.0)}


@pytest.mark.parametrize(("prepare", "received"), [(fails, "ValueError: no such device"), (ends, "a process that")])
def test_a_measurement_that_fails_is_an_error(prepare: Any, received: str) -> None:
    with Measurement(prepare) as measurement, pytest.raises(StudyError, match=received):
        measurement.wait()


def test_the_paper_s_profile_is_trained_with_the_size_that_was_asked_for() -> None:
    profile = Training("scratch", 96, 1).profile(16)
    assert (profile.name, profile.model.input_size, profile.training.batch_size) == ("paper", 96, 16)


def test_epochs_that_begin_before_or_end_after_the_measured_time_count_in_part() -> None:
    assert epochs_between(2.0, 9.0, [0.0, 4.0, 8.0, 12.0]) == pytest.approx(0.5 + 1 + 0.25)
    assert epochs_between(2.0, 3.0, [0.0, 4.0]) == pytest.approx(0.25), "an epoch that is longer"


def test_measurements_are_prepared_in_groups_that_the_memory_of_the_gpu_holds() -> None:
    sizes = [(64, "float32"), (32, "float32"), (128, "float32"), (32, "mixed_bfloat16"), (32, "float32")]
    assert [gpu_measurements.gib_of(size) for size in sizes] == [5.0, 2.5, 10.0, 1.25, 2.5]

    def groups(memory: float) -> list[list[gpu_measurements.Size]]:
        parts: list[gpu_measurements.Part] = [(size, prepare_step, size) for size in sizes]
        return [[size for size, *_ in group] for group in gpu_measurements.groups_that_fit(parts, memory)]

    assert groups(80.0) == [sizes]
    assert groups(16.0) == [sizes[:2], sizes[2:]]
    assert groups(8.0) == [sizes[:2], sizes[2:3], sizes[3:]], "one that is too large is tried alone"


def test_each_measurement_gets_memory_in_proportion_to_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[float] = []

    class Started(Prepared):
        def __init__(self, _prepare: Any, _training: Any, share: float, *_: Any) -> None:
            shares.append(share)

    monkeypatch.setattr(gpu_measurements, "Measurement", Started)
    parts: list[gpu_measurements.Part] = [(size, prepare_step, size) for size in ((32, "float32"), (96, "float32"))]
    for gpus in (1.0, 0.0):
        with gpu_measurements.prepared(Training("scratch", 200, 1), parts, gpus):
            pass
    assert shares == [0.25, 0.75, 0.0, 0.0]

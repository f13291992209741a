import os
from collections.abc import Callable
from typing import Any

import pytest

from cxr_platform.errors import StudyError
from pipelines.benchmarks.gpu_measurements import Measurement, Training, epochs_between


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

"""What is measured on a GPU, each measurement prepared and repeated in a process of its own."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from cxr_platform.config import Profile, load_profile
from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.errors import StudyError, typed_line

BYTES = {"float32": 4, "mixed_bfloat16": 2, "mixed_float16": 2}
DTYPES = {"float32": "float32", "mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}
Prepare = Callable[..., Callable[..., dict[str, Any]]]
"""A function that compiles all that a measurement needs, and returns the measurement."""


Size = tuple[int, str]
"""Batch size and precision."""

Part = tuple[Size, Prepare, tuple[Any, ...]]
"""A measurement: its size, the function that prepares it, and that function's further arguments."""


@dataclass(frozen=True)
class Training:
    """What is trained: a strategy on images of a size, in how many batches of one measurement."""

    strategy: str
    input_size: int
    batches: int

    def profile(self, batch_size: int) -> Profile:
        """Return the paper's profile with this size of images, and a batch size."""
        return load_profile("paper", {"model.input_size": self.input_size, "training.batch_size": batch_size})


class Measurement:
    """A process that prepares a measurement, `prepare(training, share, …)`, and repeats what this returns."""

    def __init__(self, prepare: Prepare, *arguments: Any) -> None:
        context = get_context("spawn")
        self._connection, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, prepare, arguments), daemon=True)
        self._process.start()
        there.close()

    def __enter__(self) -> "Measurement":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait(self) -> None:
        """Wait until it is prepared; raise `StudyError` if it fails."""
        self.end()

    def begin(self, *arguments: float) -> None:
        """Start to measure; the prepared function gets `arguments`."""
        self._connection.send(arguments)

    def end(self) -> dict[str, Any]:
        """Return the result of the measurement that was begun."""
        try:
            result: dict[str, Any] = self._connection.recv()
        except EOFError:
            raise StudyError("Expected the measurement to end.", received="a process that ended before it") from None
        if "error" in result:
            raise StudyError("Expected the measurement to succeed.", received=result["error"])
        return result

    def result(self) -> dict[str, Any]:
        """Measure, and return the result."""
        self.begin()
        return self.end()

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.join()


def _serve(connection: Connection, prepare: Prepare, arguments: Any) -> None:
    try:
        measure = prepare(*arguments)
        connection.send({})
        while True:
            connection.send(measure(*connection.recv()))
    except EOFError:
        return
    except Exception as error:
        connection.send({"error": typed_line(error)})


def gib_of(size: Size) -> float:
    """Return the GPU memory of a measurement in GiB, as of 200 px."""
    from cxr_platform.training.devices import gib_of_trial

    batch_size, precision = size
    return gib_of_trial(batch_size, precision=precision)


def groups_that_fit(parts: Sequence[Part], memory: float) -> Iterator[list[Part]]:
    """Yield `parts` in order, in groups that `memory` GiB hold; one that is too large alone is a group of its own."""
    group: list[Part] = []
    for part in parts:
        if group and sum(gib_of(size) for size, *_ in [*group, part]) > memory:
            yield group
            group = []
        group.append(part)
    yield group


@contextmanager
def prepared(training: Training, parts: Sequence[Part], gpus: float) -> Iterator[list[Measurement]]:
    """Yield measurements that are prepared at the same time, each with memory in proportion to its size."""
    total = sum(gib_of(size) for size, *_ in parts)
    with ExitStack() as running:
        measurements = [
            running.enter_context(Measurement(prepare, training, gpus * gib_of(size) / total, *arguments))
            for size, prepare, arguments in parts
        ]
        for measurement in measurements:
            measurement.wait()
        yield measurements


def measured(training: Training, parts: Sequence[Part], gpus: float) -> Iterator[dict[str, Any]]:
    """Yield the results of `parts`, measured one after the other."""
    with prepared(training, parts, gpus) as measurements:
        for measurement in measurements:
            yield measurement.result()
            measurement.close()  # frees its memory


def prepare_limits(
    training: Training, share: float, batch_size: int, precisions: Sequence[str]
) -> Callable[[], dict[str, Any]]:
    """Return a function that counts the work of the network and measures the device."""
    from cxr_platform.models.mobilenet import build_network
    from pipelines.benchmarks.gpu_limits import count_work, images_per_second, measure_rates

    profile = _set_up(training, share, batch_size)
    work = count_work(build_network(strategy_by_name(training.strategy), profile.model).upper)
    side, megabytes = (8192, 1024) if share else (256, 64)

    def measure() -> dict[str, Any]:
        rates = {name: measure_rates(DTYPES[name], side, megabytes) for name in precisions}
        return {
            "work": {**asdict(work), "flop": work.flop},
            "device": {name: asdict(rate) for name, rate in rates.items()},
            "images_per_second": {
                name: {f"{limit}_limit": value for limit, value in images_per_second(work, rate, BYTES[name]).items()}
                for name, rate in rates.items()
            },
        }

    return measure


def prepare_step(training: Training, share: float, batch_size: int, precision: Any) -> Callable[[], dict[str, Any]]:
    """Return a function that measures the training loop, the bare step and `model.fit`; it is compiled already."""
    from pipelines.benchmarks.step import SpeedTest, workbench

    profile = _set_up(training, share, batch_size)
    test = SpeedTest(training.strategy, workbench(profile, share, precision), profile.augmentation, training.batches)
    test.compile()

    def measure() -> dict[str, Any]:
        speed = test.measure()
        names = ("loop", "bare_step", "model_fit", "loop_to_model_fit")
        return {name: getattr(speed, name) for name in names}

    return measure


def prepare_trial(
    training: Training, share: float, precision: Any, number: int
) -> Callable[[float, float], dict[str, Any]]:
    """Return a function that trains and states the images between two times of the clock; it is compiled already."""
    from pipelines.benchmarks.step import SpeedTest, workbench

    batch_size = load_profile("paper").training.batch_size
    profile = _set_up(training, share, batch_size)
    bench = workbench(profile, share, precision)
    test = SpeedTest(training.strategy, bench, profile.augmentation, training.batches, seed=number)
    test.loop()

    def measure(begin: float, end: float) -> dict[str, Any]:
        times = [time.monotonic()]  # that of all processes of a machine
        while times[-1] < end:
            test.loop()
            times.append(time.monotonic())
        return {"images": training.batches * batch_size * epochs_between(begin, end, times)}

    return measure


def epochs_between(begin: float, end: float, times: Sequence[float]) -> float:
    """Return the epochs between `begin` and `end`, with parts of epochs; each ends at one of `times` but the first."""
    first, last = np.interp((begin, end), times, range(len(times)))
    return float(last - first)


def _set_up(training: Training, share: float, batch_size: int) -> Profile:
    from cxr_platform.training.devices import is_deterministic, limit_process

    profile = training.profile(batch_size)
    limit_process(float(os.cpu_count() or 1), share, is_deterministic(profile.resources, share))
    return profile

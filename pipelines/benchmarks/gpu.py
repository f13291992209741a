"""Measure training on a GPU: images per second by batch size and precision, and trials an hour by how many run at once.

Each speed is put beside Keras' `model.fit` on arrays in memory on the same GPU, and beside the two limits of the device
(`gpu_limits`). As many measurements as the GPU's memory holds are prepared at once, each in a process of its own,
because compiling takes longer than measuring; they are then measured one by one. Without a GPU the same runs on the
processors, at a small size.
"""

import argparse
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import product
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from cxr_platform.config import Profile, load_profile
from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.errors import StudyError
from pipelines.benchmarks import write_result
from pipelines.benchmarks.step import parse_precisions
from pipelines.command import run_command
from pipelines.options import parse_request

BYTES = {"float32": 4, "mixed_bfloat16": 2, "mixed_float16": 2}
DTYPES = {"float32": "float32", "mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}
Size = tuple[int, str]
"""Batch size and precision."""

Prepare = Callable[..., Callable[..., dict[str, Any]]]
"""A function that compiles all that a measurement needs, and returns the measurement."""

Part = tuple[Size, Prepare, tuple[Any, ...]]
"""A measurement: its size, the function that prepares it, and that function's further arguments."""

LIMITS_SIZE: Size = (64, "float32")
"""Size of a step that needs about as much memory as the measurement of the limits."""
PAPER_IMAGES = 3905
"""Images of the paper: the size for which trials an hour are stated."""

WARM_UP_SECONDS, TOGETHER_SECONDS = 1.0, 5.0
"""Trials at once train for the first time unmeasured, as the clocks of a GPU rise, and are measured for the second."""


@dataclass(frozen=True)
class GpuRequest:
    """What to measure, and the JSON file for the result (`None`: print only)."""

    strategy: str
    input_size: int
    batch_sizes: tuple[int, ...]
    precisions: tuple[str, ...]
    at_once: tuple[int, ...]
    batches: int
    json: Path | None


@dataclass(frozen=True)
class Speed:
    """Images per second of the training loop and of `model.fit`, and to which each limit alone would let training."""

    batch_size: int
    precision: str
    loop: float
    bare_step: float
    model_fit: float
    loop_to_model_fit: float
    arithmetic_limit: float
    memory_limit: float

    @property
    def of_limit(self) -> float:
        """The speed of the loop as a share of the lower limit."""
        return self.loop / min(self.arithmetic_limit, self.memory_limit)


@dataclass(frozen=True)
class AtOnce:
    """Trials that run at once, images per second of all of them together, and trials an hour of the paper's size."""

    trials: int
    images_per_second: float
    trials_per_hour: float


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `cxr benchmark gpu`."""
    parser.add_argument("--strategy", default="scratch", help="strategy to train (default: scratch)")
    parser.add_argument(
        "--input-size", type=int, default=200, metavar="PIXELS", help="side of the images (default: 200)"
    )
    parser.add_argument(
        "--batch-sizes", type=numbers, default=(32, 128), metavar="N,…", help="batch sizes (default: 32,128)"
    )
    parser.add_argument(
        "--precisions",
        type=parse_precisions,
        default=("float32", "mixed_bfloat16"),
        metavar="NAME,…",
        help=f"out of {', '.join(BYTES)} (default: float32,mixed_bfloat16)",
    )
    parser.add_argument(
        "--at-once",
        type=numbers,
        default=(1, 2, 4, 8),
        metavar="N,…",
        help="numbers of trials that share the device (default: 1,2,4,8)",
    )
    parser.add_argument("--batches", type=int, default=24, help="batches of a measurement (default: 24)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result with hardware and versions")


def main(argv: Sequence[str] | None = None) -> int:
    """Run this benchmark alone, on machines that lack the libraries of the others; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.benchmarks.gpu", description=__doc__)
    add_options(parser)
    return run_command(lambda: run(parse_request(GpuRequest, parser, argv)))


def numbers(text: str) -> tuple[int, ...]:
    """Return positive whole numbers, separated by commas."""
    found = tuple(int(number) for number in text.split(","))
    if min(found) < 1:
        raise argparse.ArgumentTypeError(f"expected numbers of at least 1, received {text}")
    return found


def run(request: GpuRequest) -> int:
    """Print the limits, the speeds and the trials an hour; return 0."""
    from cxr_platform.training.devices import gpu_memory_gib, precision_on
    from cxr_platform.training.engine_local import local_share
    from cxr_platform.training.engine_processes import compiled_steps

    gpus = local_share(_profile(request, request.batch_sizes[0]).resources).gpus
    memory = (gpu_memory_gib() if gpus else None) or math.inf
    own = precision_on("auto", gpus)
    combinations = list(product(request.batch_sizes, request.precisions))
    trial_size = (load_profile("paper").training.batch_size, own)
    counts = trials_that_fit(request.at_once, trial_size, memory)
    with compiled_steps():
        parts: list[Part] = [(LIMITS_SIZE, prepare_limits, ()), *((size, prepare_step, size) for size in combinations)]
        results = (result for group in groups_that_fit(parts, memory) for result in _measured(request, group, gpus))
        limit = next(results)
        _print_limits(limit)
        print(f"\n{'batch':>5} {'precision':<15}{'loop':>9}{'bare step':>11}{'model.fit':>11}   loop / fit   of limit")
        speeds = []
        for (batch_size, precision), result in zip(combinations, results, strict=True):
            speed = Speed(batch_size, precision, **result, **limit["images_per_second"][precision])
            speeds.append(speed)
            print(
                f"{batch_size:5} {precision:<15}{speed.loop:9.0f}{speed.bare_step:11.0f}{speed.model_fit:11.0f}"
                f"{speed.loop_to_model_fit:13.2f}{speed.of_limit:11.2f}",
                flush=True,
            )
        images, epochs = images_of_trial(request.strategy)
        print(f"\ntrials at once   images/s   trials an hour (paper's size, {epochs} epochs)")
        together = []
        trials = [(trial_size, prepare_trial, (own, number)) for number in range(max(counts))]
        with _prepared(request, trials, gpus) as measurements:
            for count in counts:
                together.append(at_once(measurements[:count], images))
                print(
                    f"{count:14}{together[-1].images_per_second:11.0f}{together[-1].trials_per_hour:17.0f}", flush=True
                )
        for count in sorted({*request.at_once} - {*counts}):
            print(f"{count:14}: not measured, as they need {count * gib_of(trial_size):.1f} GiB of GPU memory")
    if request.json is not None:
        settings = {"strategy": request.strategy, "input_size": request.input_size, "batches": request.batches}
        result = {
            "limits": limit,
            "speeds": [{**asdict(speed), "of_limit": speed.of_limit} for speed in speeds],
            "at_once": [asdict(one) for one in together],
            "at_once_precision": own,
        }
        write_result(request.json, "gpu", {**settings, **result})
    return 0


def gib_of(size: Size) -> float:
    """Return the GPU memory of a measurement in GiB; `GIB_PER_TRIAL` is that of batch size 32 in float32."""
    from cxr_platform.training.devices import GIB_PER_TRIAL

    batch_size, precision = size
    return GIB_PER_TRIAL * batch_size * BYTES[precision] / (32 * BYTES["float32"])


def groups_that_fit(parts: Sequence[Part], memory: float) -> Iterator[list[Part]]:
    """Yield `parts` in order, in groups that `memory` GiB hold; one that is too large alone is a group of its own."""
    group: list[Part] = []
    for part in parts:
        if group and sum(gib_of(size) for size, *_ in [*group, part]) > memory:
            yield group
            group = []
        group.append(part)
    yield group


def trials_that_fit(counts: Sequence[int], size: Size, memory: float) -> list[int]:
    """Return those of `counts` that `memory` GiB hold at once, but at least the smallest."""
    return [count for count in counts if count == min(counts) or count * gib_of(size) <= memory]


@contextmanager
def _prepared(request: GpuRequest, parts: Sequence[Part], gpus: float) -> Iterator[list["Measurement"]]:
    """Yield measurements that are prepared at the same time, each with memory in proportion to its size."""
    total = sum(gib_of(size) for size, *_ in parts)
    with ExitStack() as running:
        measurements = [
            running.enter_context(Measurement(prepare, request, gpus * gib_of(size) / total, *arguments))
            for size, prepare, arguments in parts
        ]
        for measurement in measurements:
            measurement.wait()
        yield measurements


def _measured(request: GpuRequest, parts: Sequence[Part], gpus: float) -> Iterator[dict[str, Any]]:
    """Yield the results of `parts`, measured one after the other."""
    with _prepared(request, parts, gpus) as measurements:
        for measurement in measurements:
            yield measurement.result()
            measurement.close()  # frees its memory


def best_at_once(result: dict[str, Any]) -> int:
    """Return the number of trials at once with the most trials an hour, in the JSON of this benchmark."""
    best = max(result["at_once"], key=lambda one: one["trials_per_hour"])
    return int(best["trials"])


def images_of_trial(strategy: str) -> tuple[float, int]:
    """Return how many images of full size a trial of the paper's size trains on, by time, and the number of epochs."""
    paper = load_profile("paper")
    images = PAPER_IMAGES * (paper.folds - 1) / paper.folds
    schedule = paper.training.schedule(strategy_by_name(strategy).family)
    epochs = schedule.epochs_for(images, paper.training.batch_size)
    return images * schedule.full_size_epochs(epochs, paper.model.input_size), epochs


def at_once(trials: Sequence["Measurement"], images: float) -> AtOnce:
    """Let all `trials` train throughout the same seconds, and return their speed; one trial trains on `images`."""
    begin = time.monotonic() + WARM_UP_SECONDS
    for trial in trials:
        trial.begin(begin, begin + TOGETHER_SECONDS)
    rate = sum(trial.end()["images"] for trial in trials) / TOGETHER_SECONDS
    return AtOnce(len(trials), rate, 3600 * rate / images)


class Measurement:
    """A process that prepares a measurement, `prepare(request, share, …)`, and repeats what that returns on request."""

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


def prepare_limits(request: GpuRequest, share: float) -> Callable[[], dict[str, Any]]:
    """Return a function that counts the work of the network and measures the device."""
    from cxr_platform.models.mobilenet import build_network
    from pipelines.benchmarks.gpu_limits import count_work, images_per_second, measure_rates

    profile = _set_up(request, share, request.batch_sizes[0])
    work = count_work(build_network(strategy_by_name(request.strategy), profile.model).upper)
    side, megabytes = (8192, 1024) if share else (256, 64)

    def measure() -> dict[str, Any]:
        rates = {name: measure_rates(DTYPES[name], side, megabytes) for name in request.precisions}
        return {
            "work": {**asdict(work), "flop": work.flop},
            "device": {name: asdict(rate) for name, rate in rates.items()},
            "images_per_second": {
                name: {f"{limit}_limit": value for limit, value in images_per_second(work, rate, BYTES[name]).items()}
                for name, rate in rates.items()
            },
        }

    return measure


def prepare_step(request: GpuRequest, share: float, batch_size: int, precision: Any) -> Callable[[], dict[str, Any]]:
    """Return a function that measures the training loop, the bare step and `model.fit`; it is compiled already."""
    from pipelines.benchmarks.step import SpeedTest, workbench

    profile = _set_up(request, share, batch_size)
    test = SpeedTest(request.strategy, workbench(profile, share, precision), profile.augmentation, request.batches)
    test.compile()

    def measure() -> dict[str, Any]:
        speed = test.measure()
        names = ("loop", "bare_step", "model_fit", "loop_to_model_fit")
        return {name: getattr(speed, name) for name in names}

    return measure


def prepare_trial(
    request: GpuRequest, share: float, precision: Any, number: int
) -> Callable[[float, float], dict[str, Any]]:
    """Return a function that trains and states the images between two times of the clock; it is compiled already."""
    from pipelines.benchmarks.step import SpeedTest, workbench

    batch_size = load_profile("paper").training.batch_size
    profile = _set_up(request, share, batch_size)
    bench = workbench(profile, share, precision)
    test = SpeedTest(request.strategy, bench, profile.augmentation, request.batches, seed=number)
    test.loop()

    def measure(begin: float, end: float) -> dict[str, Any]:
        times = [time.monotonic()]  # that of all processes of a machine
        while times[-1] < end:
            test.loop()
            times.append(time.monotonic())
        return {"images": request.batches * batch_size * epochs_between(begin, end, times)}

    return measure


def epochs_between(begin: float, end: float, times: Sequence[float]) -> float:
    """Return the epochs between `begin` and `end`, with parts of epochs; each ends at one of `times` but the first."""
    first, last = np.interp((begin, end), times, range(len(times)))
    return float(last - first)


def _set_up(request: GpuRequest, share: float, batch_size: int) -> Profile:
    from cxr_platform.training.devices import is_deterministic, limit_process

    profile = _profile(request, batch_size)
    limit_process(float(os.cpu_count() or 1), share, is_deterministic(profile.resources, share))
    return profile


def _profile(request: GpuRequest, batch_size: int) -> Profile:
    size = {"model.input_size": request.input_size, "training.batch_size": batch_size}
    return load_profile("paper", size)


def _serve(connection: Connection, prepare: Prepare, arguments: Any) -> None:
    try:
        measure = prepare(*arguments)
        connection.send({})
        while True:
            connection.send(measure(*connection.recv()))
    except EOFError:
        return
    except Exception as error:
        connection.send({"error": f"{type(error).__name__}: {error}"})


def _print_limits(limit: dict[str, Any]) -> None:
    work = limit["work"]
    print(
        f"an image takes {work['macs'] / 1e6:.0f} MMAC forward, {work['flop'] / 1e9:.2f} GFLOP forward and backward; "
        f"its layers write {work['outputs'] / 1e6:.1f} M values"
    )
    for name, rates in limit["device"].items():
        bounds = limit["images_per_second"][name]
        print(
            f"{name:<15}{rates['flop'] / 1e12:8.2f} TFLOP/s, {rates['moved_bytes'] / 1e9:7.1f} GB/s: at most "
            f"{bounds['arithmetic_limit']:.0f} images/s by arithmetic, {bounds['memory_limit']:.0f} by memory"
        )


if __name__ == "__main__":
    raise SystemExit(main())

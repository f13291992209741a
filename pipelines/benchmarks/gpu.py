"""Measure training on a GPU: images per second by batch size and precision, and trials an hour by how many run at once.

Each speed is put beside Keras' `model.fit` on arrays in memory on the same GPU, and beside the two limits of the device
(`gpu_limits`). Trials at once are measured while they take turns on the GPU, and with NVIDIA's MPS where it is
installed: their kernels then run at the same time. As many measurements as the GPU's memory holds are prepared at once,
each in a process of its own, because compiling takes longer than measuring; they are then measured one by one. Without
a GPU the same runs on the processors, at a small size.
"""

import argparse
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from cxr_platform.config import load_profile
from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.errors import CxrError
from cxr_platform.training.mps import CONTROL, mps_daemon, mps_is_running
from pipelines.benchmarks import write_result
from pipelines.benchmarks.gpu_measurements import (
    BYTES,
    Measurement,
    Prepare,
    Training,
    prepare_limits,
    prepare_step,
    prepare_trial,
)
from pipelines.benchmarks.step import parse_precisions
from pipelines.command import run_command
from pipelines.options import parse_request

Size = tuple[int, str]
"""Batch size and precision."""

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

    @property
    def training(self) -> Training:
        """What each measurement trains."""
        return Training(self.strategy, self.input_size, self.batches)


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
    """Trials that run at once, images per second of all of them together, and trials an hour of the paper's size.

    `mps` is True if NVIDIA's MPS ran their kernels at the same time.
    """

    trials: int
    images_per_second: float
    trials_per_hour: float
    mps: bool = False


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

    training, batch_size = request.training, request.batch_sizes[0]
    gpus = local_share(training.profile(batch_size).resources).gpus
    memory = (gpu_memory_gib() if gpus else None) or math.inf
    own = precision_on("auto", gpus)
    combinations = list(product(request.batch_sizes, request.precisions))
    trial_size = (load_profile("paper").training.batch_size, own)
    counts = trials_that_fit(request.at_once, trial_size, memory)
    with compiled_steps():
        parts: list[Part] = [(LIMITS_SIZE, prepare_limits, (batch_size, request.precisions))]
        parts += [(size, prepare_step, size) for size in combinations]
        results = (result for group in groups_that_fit(parts, memory) for result in _measured(training, group, gpus))
        limit = next(results)
        _print_limits(limit)
        print(f"\n{'batch':>5} {'precision':<15}{'loop':>9}{'bare step':>11}{'model.fit':>11}   loop / fit   of limit")
        speeds = []
        for (size, precision), result in zip(combinations, results, strict=True):
            speed = Speed(size, precision, **result, **limit["images_per_second"][precision])
            speeds.append(speed)
            print(
                f"{size:5} {precision:<15}{speed.loop:9.0f}{speed.bare_step:11.0f}{speed.model_fit:11.0f}"
                f"{speed.loop_to_model_fit:13.2f}{speed.of_limit:11.2f}",
                flush=True,
            )
        images, epochs = images_of_trial(request.strategy)
        print(f"\ntrials at once   MPS   images/s   trials an hour (paper's size, {epochs} epochs)")
        together: list[AtOnce] = []
        trials: list[Part] = [(trial_size, prepare_trial, (own, number)) for number in range(max(counts))]
        for mps in ways_to_share() if gpus else (False,):
            try:
                with mps_daemon() if mps else nullcontext(), _prepared(training, trials, gpus) as measurements:
                    for count in counts:
                        one = at_once(measurements[:count], images, mps)
                        together.append(one)
                        print(
                            f"{count:14}{'yes' if mps else 'no':>6}{one.images_per_second:11.0f}"
                            f"{one.trials_per_hour:17.0f}",
                            flush=True,
                        )
            except CxrError as error:
                if not together:
                    raise
                print(f"With MPS: {error}")
        for count in sorted({*request.at_once} - {*counts}):
            print(f"{count:14}: not measured, as they need {count * gib_of(trial_size):.1f} GiB of GPU memory")
    if request.json is not None:
        result = {
            "limits": limit,
            "speeds": [{**asdict(speed), "of_limit": speed.of_limit} for speed in speeds],
            "at_once": [asdict(one) for one in together],
            "at_once_precision": own,
        }
        write_result(request.json, "gpu", {**asdict(training), **result})
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
def _prepared(training: Training, parts: Sequence[Part], gpus: float) -> Iterator[list[Measurement]]:
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


def _measured(training: Training, parts: Sequence[Part], gpus: float) -> Iterator[dict[str, Any]]:
    """Yield the results of `parts`, measured one after the other."""
    with _prepared(training, parts, gpus) as measurements:
        for measurement in measurements:
            yield measurement.result()
            measurement.close()  # frees its memory


def ways_to_share() -> tuple[bool, ...]:
    """Return whether to measure without MPS, with it, or both: processes use a daemon that is running already."""
    if mps_is_running():
        return (True,)
    return (False, True) if shutil.which(CONTROL) else (False,)


def best_at_once(result: dict[str, Any]) -> tuple[int, bool]:
    """Return the number of trials at once with the most trials an hour, and whether with MPS, of this benchmark's
    JSON."""
    best = max(result["at_once"], key=lambda one: one["trials_per_hour"])
    return int(best["trials"]), bool(best.get("mps"))


def images_of_trial(strategy: str) -> tuple[float, int]:
    """Return how many images of full size a trial of the paper's size trains on, by time, and the number of epochs."""
    paper = load_profile("paper")
    images = PAPER_IMAGES * (paper.folds - 1) / paper.folds
    schedule = paper.training.schedule(strategy_by_name(strategy).family)
    epochs = schedule.epochs_for(images, paper.training.batch_size)
    return images * schedule.full_size_epochs(epochs, paper.model.input_size), epochs


def at_once(trials: Sequence[Measurement], images: float, mps: bool) -> AtOnce:
    """Let all `trials` train throughout the same seconds, and return their speed; one trial trains on `images`."""
    begin = time.monotonic() + WARM_UP_SECONDS
    for trial in trials:
        trial.begin(begin, begin + TOGETHER_SECONDS)
    rate = sum(trial.end()["images"] for trial in trials) / TOGETHER_SECONDS
    return AtOnce(len(trials), rate, 3600 * rate / images, mps)


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

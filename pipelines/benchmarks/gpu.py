"""Measure training on a GPU: images per second by batch size and precision, and trials an hour by how many run at once.

Each speed is put beside Keras' `model.fit` on arrays in memory on the same GPU, and beside the two limits of the device
(`gpu_limits`). As many measurements as the GPU's memory holds are prepared at once, each in a process of its own,
because compiling takes longer than measuring; they are then measured one by one. Without a GPU the same runs on the
processors, at a small size.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from cxr_platform.errors import ConfigError, typed_line
from pipelines.benchmarks import write_result
from pipelines.benchmarks.gpu_measurements import (
    BYTES,
    Part,
    Size,
    Training,
    groups_that_fit,
    measured,
    prepare_limits,
    prepare_step,
)
from pipelines.benchmarks.gpu_sharing import trials_at_once
from pipelines.benchmarks.step import parse_precisions
from pipelines.command import run_command
from pipelines.options import parse_request, positive

LIMITS_SIZE: Size = (64, "float32")
"""Size of a step that needs about as much memory as the measurement of the limits."""


@dataclass(frozen=True)
class GpuRequest:
    """What to measure, and the JSON file for the result (`None`: print only)."""

    strategy: str
    input_size: int
    batch_sizes: tuple[int, ...]
    precisions: tuple[str, ...]
    at_once: tuple[int, ...]
    batches: int
    only_at_once: bool
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
    parser.add_argument("--batches", type=positive, default=24, help="batches of a measurement (default: 24)")
    parser.add_argument(
        "--only-at-once", action="store_true", help="measure trials at once only; keep limits and speeds of --json"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result with hardware and versions")


def main(argv: Sequence[str] | None = None) -> int:
    """Run this benchmark alone, on machines that lack the libraries of the others; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.benchmarks.gpu", description=__doc__)
    add_options(parser)
    return run_command(lambda: run(parse_request(GpuRequest, parser, argv)))


def numbers(text: str) -> tuple[int, ...]:
    """Return positive whole numbers, separated by commas."""
    return tuple(positive(number.strip()) for number in text.split(","))


def run(request: GpuRequest) -> int:
    """Print the limits, the speeds and the trials an hour; return 0.

    The result is written after the speeds too, without trials at once: a call whose time is over there keeps them.
    """
    from cxr_platform.training.devices import gpu_memory_gib, precision_on
    from cxr_platform.training.engine_local import local_share
    from cxr_platform.training.engine_processes import compiled_steps

    training = request.training
    gpus = local_share(training.profile(request.batch_sizes[0]).resources).gpus
    memory = (gpu_memory_gib() if gpus else None) or math.inf
    own = precision_on("auto", gpus)
    with compiled_steps():
        limit, speeds = _earlier(request) if request.only_at_once else _speeds(request, gpus, memory)
        result = {
            **asdict(training),
            "limits": limit,
            "speeds": speeds,
            "at_once": [],
            "at_once_precision": own,
        }
        if request.json is not None:
            write_result(request.json, "gpu", result)
        together = trials_at_once(training, request.at_once, own, gpus, memory)
    if request.json is not None:
        write_result(request.json, "gpu", {**result, "at_once": [asdict(one) for one in together]})
    return 0


def _earlier(request: GpuRequest) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return limits and speeds of the result in `--json`; raise `ConfigError` if it is of another training or GPU."""
    from cxr_platform.training.devices import hardware

    try:
        if request.json is None:
            raise ValueError("no --json")
        result = json.loads(request.json.read_bytes())
        here = {**asdict(request.training), "hardware": hardware().model_dump(mode="json")}
        other = [name for name, value in here.items() if result[name] != value]
        if other:
            raise ValueError(f"another {other[0]}: {result[other[0]]}")
        return result["limits"], result["speeds"]
    except (KeyError, OSError, TypeError, ValueError) as error:
        problem = "Expected an earlier result of these options and this machine in --json, for --only-at-once."
        raise ConfigError(problem, received=typed_line(error)) from error


def _speeds(request: GpuRequest, gpus: float, memory: float) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Measure and print the limits, and the speed of each batch size and precision."""
    combinations = list(product(request.batch_sizes, request.precisions))
    parts: list[Part] = [(LIMITS_SIZE, prepare_limits, (request.batch_sizes[0], request.precisions))]
    parts += [(size, prepare_step, size) for size in combinations]
    groups = groups_that_fit(parts, memory)
    results = (result for group in groups for result in measured(request.training, group, gpus))
    limit = next(results)
    _print_limits(limit)
    print(f"\n{'batch':>5} {'precision':<15}{'loop':>9}{'bare step':>11}{'model.fit':>11}   loop / fit   of limit")
    speeds = []
    for (size, precision), result in zip(combinations, results, strict=True):
        speed = Speed(size, precision, **result, **limit["images_per_second"][precision])
        speeds.append({**asdict(speed), "of_limit": speed.of_limit})
        print(
            f"{size:5} {precision:<15}{speed.loop:9.0f}{speed.bare_step:11.0f}{speed.model_fit:11.0f}"
            f"{speed.loop_to_model_fit:13.2f}{speed.of_limit:11.2f}",
            flush=True,
        )
    return limit, speeds


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

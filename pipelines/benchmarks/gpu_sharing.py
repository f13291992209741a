"""How many trials to train at once on a GPU, and whether with NVIDIA's MPS: measured both ways where it is installed.

Without MPS the processes take turns; with it their kernels run at the same time (`training.mps`).
"""

import shutil
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from cxr_platform.config import Precision, load_profile
from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.errors import CxrError
from cxr_platform.training.mps import CONTROL, mps_daemon, mps_is_running
from pipelines.benchmarks.gpu_measurements import Measurement, Part, Size, Training, gib_of, prepare_trial, prepared

PAPER_IMAGES = 3905
"""Images of the paper: the size for which trials an hour are stated."""

WARM_UP_SECONDS, TOGETHER_SECONDS = 1.0, 5.0
"""Trials at once train for the first time unmeasured, as the clocks of a GPU rise, and are measured for the second."""


@dataclass(frozen=True)
class AtOnce:
    """Trials that run at once, images per second of all of them together, and trials an hour of the paper's size.

    `mps` is True if NVIDIA's MPS ran their kernels at the same time.
    """

    trials: int
    images_per_second: float
    trials_per_hour: float
    mps: bool


def trials_at_once(
    training: Training, numbers: Sequence[int], precision: Precision, gpus: float, memory: float
) -> list[AtOnce]:
    """Measure and print each of `numbers` that `memory` GiB hold, in each way to share.

    A way that fails is left out, and its reason printed; `CxrError` if all fail.
    """
    size = (load_profile("paper").training.batch_size, precision)
    counts = trials_that_fit(numbers, size, memory)
    trials: list[Part] = [(size, prepare_trial, (precision, number)) for number in range(max(counts))]
    images, epochs = images_of_trial(training.strategy)
    found: list[AtOnce] = []
    failures: list[CxrError] = []
    print(f"\ntrials at once   MPS   images/s   trials an hour (paper's size, {epochs} epochs)")
    for mps in ways_to_share() if gpus else (False,):
        try:
            with mps_daemon() if mps else nullcontext(), prepared(training, trials, gpus) as measurements:
                for count in counts:
                    one = at_once(measurements[:count], images, mps)
                    found.append(one)
                    print(
                        f"{count:14}{'yes' if mps else 'no':>6}{one.images_per_second:11.0f}"
                        f"{one.trials_per_hour:17.0f}",
                        flush=True,
                    )
        except CxrError as error:
            print(f"{'With' if mps else 'Without'} MPS: {error}")
            failures.append(error)
    if not found:
        raise failures[0]
    for count in sorted({*numbers} - {*counts}):
        print(f"{count:14}: not measured, as they need {count * gib_of(size):.1f} GiB of GPU memory")
    return found


def trials_that_fit(counts: Sequence[int], size: Size, memory: float) -> list[int]:
    """Return those of `counts` that `memory` GiB hold at once, but at least the smallest."""
    return [count for count in counts if count == min(counts) or count * gib_of(size) <= memory]


def ways_to_share() -> tuple[bool, ...]:
    """Return whether to measure without MPS, with it, or both: processes use a daemon that is running already."""
    if mps_is_running():
        return (True,)
    return (False, True) if shutil.which(CONTROL) else (False,)


def best_at_once(result: dict[str, Any], only: int | None = None) -> tuple[int, bool]:
    """Return the number of trials at once with the most trials an hour, or `only` it, and whether with MPS.

    `result` is the JSON of the benchmark, which may be of another machine: ways to share that this one has count.
    """
    ways = ways_to_share()
    chosen = [one for one in result["at_once"] if one["mps"] in ways and only in (None, one["trials"])]
    if not chosen:
        return only or max(one["trials"] for one in result["at_once"]), False
    best = max(chosen, key=lambda one: one["trials_per_hour"])
    return best["trials"], best["mps"]


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

"""Small champions: what to train, what an uninterrupted training gives, and a driver that can be killed.

python -m tests.training.champion_runs ROOT
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.domain.study import NO_FOLD
from cxr_platform.progress import NoProgress
from cxr_platform.training import champion_ray, engine_local
from cxr_platform.training.activations import on_ray
from cxr_platform.training.champion import run_champion
from cxr_platform.training.plan import cuts_of
from cxr_platform.training.study import StudyRun, inputs_of
from cxr_platform.training.trial import TrialData, Workbench, train, training_rng, trial_seed
from tests.training.builders import tiny_profile, tiny_study

EPOCHS, HELD = 20, 3
"""Epochs of a champion, and that at which a worker is held until it is killed (`holding_mailbox`)."""
HELD_SECONDS = 600
"""After which a training whose epochs do not arrive goes on, and its test fails."""

NAME = "off-the-shelf"


def champion_study(root: Path, **overrides: object) -> StudyRun:
    settings = {"training.off_the_shelf": {"epochs": EPOCHS, "learning_rate": 0.01}, **overrides}
    study = tiny_study(root, (NAME,), tiny_profile(**settings))
    return replace(study, imagenet=steady_imagenet())


def steady_imagenet() -> dict[str, list[np.ndarray]]:
    """The same random weights in every process, whatever was drawn before."""
    from tests.training.backend_probe import numpy_imagenet

    return numpy_imagenet()


def uninterrupted(study: StudyRun) -> list[np.ndarray]:
    """Weights of `Network.full` after all epochs in this process, without Ray and without a stop."""
    profile, labels = study.plan.profile, study.data.labels
    bench = Workbench(profile.model, profile.training, study.imagenet)
    strategy = strategy_by_name(NAME)
    seed = trial_seed(profile.seed, NO_FOLD)
    network, step = bench.set_up(strategy, seed)
    activations = engine_local.compute_activations(study, cuts_of([NAME]), NoProgress())
    inputs = inputs_of(study, study.plan.trials()[0], activations)
    data = TrialData(inputs, labels, np.arange(len(labels)), np.arange(0))
    rng = training_rng(seed)
    assert len(list(train(step, profile.training, profile.training.schedule(strategy.family), data, rng))) == EPOCHS
    return list(network.full.get_weights())


def put_activations(
    study: StudyRun,
    cuts: tuple[str, ...],
    _share: object,
    progress: Any,
    compute: Callable[..., dict[str, list[np.ndarray]]] = engine_local.compute_activations,
) -> dict[str, list[Any]]:
    """In place of `activations.on_ray.compute_activations`: without workers, each of which would import TensorFlow."""
    import ray

    return {cut: [ray.put(chunk) for chunk in chunks] for cut, chunks in compute(study, cuts, progress).items()}


def workers_of(driver: int) -> list[int]:
    """Process numbers of the Ray Train workers that `driver` started."""
    result = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            title = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if title.startswith(b"ray::RayTrainWorker") and driver in _ancestors(int(entry.name)):
            result.append(int(entry.name))
    return result


def _ancestors(process: int) -> list[int]:
    line: list[int] = []
    while process > 1:
        try:
            process = int((Path("/proc") / str(process) / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return line
        line.append(process)
    return line


def gone(process: int, seconds: float = 300.0) -> bool:
    """Whether `process` ends in time; a zombie counts as ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if (Path("/proc") / str(process) / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.1)
    return False


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)


class PrintedSteps(NoProgress):
    def step(self, task: str, done: int, total: int) -> None:
        print(task, done, total, flush=True)


def holding_mailbox() -> type:
    """Return a class of mailboxes that do not answer the worker which reports epoch `HELD`, so that it waits there.

    The epochs of the worker that continues are later ones.
    """

    class HoldingMailbox(champion_ray._Mailbox):  # in a function, so that it is sent to Ray by value
        async def put(self, item: Any) -> None:
            super().put(item)
            if getattr(item, "epoch", None) == HELD:
                await asyncio.sleep(HELD_SECONDS)

    return HoldingMailbox


if __name__ == "__main__":
    champion_ray._Mailbox = holding_mailbox()  # type: ignore[misc]
    on_ray.compute_activations = put_activations
    study = champion_study(Path(sys.argv[1]))
    run_champion(study.plan, study.folder, lambda: study, progress=PrintedSteps())

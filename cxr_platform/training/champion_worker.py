"""What the champion's one worker does: train on all study images, from the last checkpoint if there is one."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import train as ray_train

from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.domain.study import TrialKey
from cxr_platform.errors import CxrError, StudyError
from cxr_platform.training.champion_folder import ChampionFolder
from cxr_platform.training.checkpoint import checkpoint_name, read_checkpoint, write_checkpoint
from cxr_platform.training.devices import hardware, keras_backend, limit_process, package_versions
from cxr_platform.training.plan import cuts_of
from cxr_platform.training.step import usable_devices
from cxr_platform.training.study import StudyRun, inputs_of
from cxr_platform.training.trial import (
    Position,
    TrialData,
    Workbench,
    schedule_of,
    take_up,
    train,
    training_rng,
    trial_seed,
)

NO_FOLD = 2**16


@dataclass(frozen=True)
class Job:
    """What the worker reads from the object store. `study` has one strategy; `start` is a checkpoint to go on from.

    `activations`: cut → references to chunks, as trials get them.
    """

    study: StudyRun
    folder: ChampionFolder
    start: Path | None
    activations: Mapping[str, Sequence[Any]]
    cpus: float
    gpus: float


def work(config: dict[str, Any]) -> CxrError | None:
    """The function of the Ray Train run. Returns an error that no second try would escape instead of raising it."""
    job: Job = ray.get(config["job"])
    if job.folder.is_finished():  # stored by a worker that died before it could say so
        return None
    try:
        limit_process(job.cpus, job.gpus)
        _train(job)
    except CxrError as error:
        return error
    except FloatingPointError as error:
        return StudyError("Expected the champion's training to converge.", received=error)
    return None


def _train(job: Job) -> None:
    profile, (name,) = job.study.plan.profile, job.study.plan.strategies
    strategy, seed = strategy_by_name(name), champion_seed(job.study)
    devices = usable_devices(profile.training.batch_size)
    bench = Workbench(profile.model, profile.training, job.study.imagenet, devices)
    network, step = bench.set_up(strategy, seed)
    rng = training_rng(seed)
    history = take_up(step, rng, _last_checkpoint(job))
    for epoch in train(step, profile.training, schedule_of(strategy, profile.training), _data(job), rng, len(history)):
        history.append(epoch)
        _report(Position(step.state(), rng.bit_generator.state, history))
    step.sync()
    facts = {
        "strategy": name,
        "seed": seed,
        "backend": keras_backend(),
        "manifest": job.study.plan.manifest.model_dump(),
        "images": len(job.study.data.labels),
        "epochs": len(history),
        "seconds": sum(epoch.seconds for epoch in history),
        "devices": devices,
        "cut": strategy.cut,
        "trained_layers": network.trained_layers,
        "versions": package_versions(),
        "hardware": hardware().model_dump(),
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    job.folder.store(network, history, facts)


def champion_seed(study: StudyRun) -> int:
    """The seed of the champion's start: that of a fold that no study has."""
    return trial_seed(study.plan.profile.seed, NO_FOLD)


def _data(job: Job) -> TrialData:
    (name,) = job.study.plan.strategies
    activations = {cut: ray.get(list(job.activations[cut])) for cut in cuts_of([name])}
    labels = job.study.data.labels
    inputs = inputs_of(job.study, TrialKey(name, 0), activations)
    return TrialData(inputs, labels, train=np.arange(len(labels)), test=np.arange(0))


def _last_checkpoint(job: Job) -> Position | None:
    """Of this attempt, when a worker died in it; else the one that an earlier attempt left."""
    checkpoint = ray_train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            return read_checkpoint(Path(folder))
    return read_checkpoint(job.start) if job.start else None


def _report(position: Position) -> None:
    epoch = position.history[-1]
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder), position)
        ray_train.report(
            {"epoch": vars(epoch)},
            checkpoint=ray_train.Checkpoint.from_directory(folder),
            checkpoint_dir_name=checkpoint_name(epoch.epoch),
        )

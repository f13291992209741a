"""Run all trials in this process, one after the other, without Ray: for debugging and for machines without it."""

import math
import os
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_platform.config import ResourcesConfig, Storage
from cxr_platform.domain.study import TrialKey
from cxr_platform.errors import CxrError, typed_line
from cxr_platform.models.frozen import FrozenBackbone
from cxr_platform.progress import Progress
from cxr_platform.training.activations.plan import choose_storages, plan_activations
from cxr_platform.training.activations.rates import RateProbe
from cxr_platform.training.activations.storage import MEMORY_SHARE, Room
from cxr_platform.training.devices import available_memory, backend_sees_gpu, gpu_memory_gib
from cxr_platform.training.plan import Share, cuts_of
from cxr_platform.training.progress import StudyProgress
from cxr_platform.training.study import (
    ACTIVATIONS,
    Activations,
    StudyRun,
    execute_trial,
    inputs_of,
    resolved_precision,
)
from cxr_platform.training.study_need import room_on_disk


def local_share(resources: ResourcesConfig, processes: int = 1) -> Share:
    """Return the share of each of `processes` that run trials: the processors of a trial on Ray, for the same digits.

    With a GPU, which the profile may forbid and the backend must see, the processes share it and all processors.
    """
    processors = os.cpu_count() or 1
    if resources.gpu != 0 and gpu_memory_gib() is not None and backend_sees_gpu():
        return Share(float(max(1, processors // processes)), 1.0 / processes)
    return Share(min(resources.cpu, float(processors)), 0.0)


def run(study: StudyRun, todo: list[TrialKey], progress: StudyProgress) -> dict[TrialKey, str]:
    """Run `todo`; a trial that fails is tried again as often as the profile states. An `Engine`."""
    profile = study.plan.profile
    share = local_share(profile.resources)
    precision = resolved_precision(profile.training.precision, share)
    study.folder.set_precision(precision)
    bench = study.workbench(share, precision)
    activations = compute_activations(study, cuts_of([key.strategy for key in todo]), progress)
    progress.training_begins()
    failures = {}
    for key in todo:
        inputs = inputs_of(study, key, activations)
        for attempt in range(profile.resources.retries + 1):
            try:
                record = execute_trial(study, bench, key, inputs, share, partial(progress.epoch, key), progress.note)
                study.folder.check_held()
                progress.finished(record)
                break
            except CxrError:
                raise
            except Exception as error:  # the other trials continue whatever the failure of this one is
                reason = typed_line(error)
                if attempt == profile.resources.retries:
                    failures[key] = reason
                    progress.failed(key, reason)
                else:
                    progress.message(f"{key} failed and is tried again: {reason}")
    return failures


def chosen_storages(
    study: StudyRun, cuts: tuple[str, ...], progress: Progress, processes: int | None = None
) -> dict[str, Storage]:
    """Return what `choose_storages` decides for this process, or for each of `processes`, which hold one cut each."""
    if not cuts or study.imagenet is None:
        return {}
    memory = MEMORY_SHARE * available_memory() / (processes or 1)
    room = Room(math.inf if processes else memory, memory, *room_on_disk(study, processes or 1))
    measure = RateProbe.rates if local_share(study.plan.profile.resources).gpus else None
    return choose_storages(study, cuts, room, progress, measure)


def compute_activations(
    study: StudyRun, cuts: tuple[str, ...], progress: Progress, chosen: Mapping[str, Storage] | None = None
) -> Activations:
    """Return the activations at `cuts`, kept where `chosen` says, by default as `chosen_storages` decides."""
    if not cuts or study.imagenet is None:
        return {}
    profile = study.plan.profile
    plan = plan_activations(study, cuts, chosen_storages(study, cuts, progress) if chosen is None else chosen)
    computed: list[list[NDArray[Any]]] = []
    backbones: dict[tuple[str, ...], FrozenBackbone] = {}
    done = 0
    for part in plan.parts:
        of_cuts = part.task.cuts
        if of_cuts not in backbones:
            backbones[of_cuts] = FrozenBackbone(of_cuts, profile.model, study.imagenet)
        images, transforms = part.task.images[part.rows], part.task.transforms[:, part.rows]
        views = [backbones[of_cuts].activations(images, view) for view in transforms]
        arrays = {cut: np.stack([view[cut] for view in views]) for cut in of_cuts}
        if part.files is not None:
            part.files.write(part.number, arrays)
        computed.append([] if part.files is not None else list(arrays.values()))
        done += len(part.rows)
        progress.step(ACTIVATIONS, done, plan.images)
    return plan.activations(computed)

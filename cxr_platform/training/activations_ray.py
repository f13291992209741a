"""Frozen activations on Ray: computed once by as many workers as fit, kept in the object store for all folds.

They are kept by the driver's own node, from which the others fetch them: a node that computed some may be lost, and
with it what only its workers' actors could compute again. Without the driver's node there is no study anyway.
"""

from collections import deque
from typing import Any

import numpy as np
import ray

from cxr_platform.config import ModelConfig
from cxr_platform.errors import StudyError, last_line
from cxr_platform.models.frozen import FrozenBackbone, chunks, view_transforms
from cxr_platform.models.initial_weights import BackboneWeights
from cxr_platform.training.devices import limit_process
from cxr_platform.training.progress import Progress
from cxr_platform.training.study import StudyRun

WAITING_SECONDS = 60.0
"""Without any worker that has found its place, after which that is told."""

RESTARTS = 20
"""How often a lost worker is started again, and each part tried; a part that kills its process ends there."""


def compute_activations(
    study: StudyRun, cuts: tuple[str, ...], cpus: float, gpu: float, progress: Progress
) -> dict[str, list[Any]]:
    """Cut → references to chunks (1 + views, n, …) float16 of all study images, in order.

    A lost worker's part is computed elsewhere. Parts go to the workers that are there: those for which the cluster has
    no place, however its processors are spread and whoever else uses them, are not waited for. Raises `StudyError` when
    a worker cannot compute its part.
    """
    if not cuts or study.imagenet is None:
        return {}
    workers = _start_workers(study, cuts, cpus, gpu)
    try:
        return _gather(study, cuts, workers, progress)
    except ray.exceptions.RayError as error:
        raise StudyError(
            "Expected the workers to compute the frozen activations.",
            received=last_line(error),
            advice="With little memory, lower augmentation.views or raise resources.gpu, so that fewer run at once.",
        ) from error
    finally:
        for worker in workers:
            ray.kill(worker)


def _gather(study: StudyRun, cuts: tuple[str, ...], workers: list[Any], progress: Progress) -> dict[str, list[Any]]:
    profile, images = study.plan.profile, study.data.images
    transforms = view_transforms(len(images), profile.model.input_size, profile.augmentation, profile.seed)
    parts = list(chunks(len(images)))
    weights, left = ray.put(study.imagenet), deque(range(len(parts)))
    asked: dict[Any, tuple[Any, int | None]] = {worker.ready.remote(): (worker, None) for worker in workers}
    kept: dict[int, list[Any]] = {}
    done = 0
    while len(kept) < len(parts):
        answer = _next_answer(list(asked), progress)
        worker, number = asked.pop(answer)
        if left:
            part = parts[left[0]]
            request = worker.compute.remote(weights, images[part], transforms[:, part])
            asked[request] = worker, left.popleft()
        else:  # its place is for one that has lost its own and has a part to do
            ray.kill(worker)
        computed = ray.get(answer)
        if number is not None:
            kept[number] = [ray.put(chunk) for chunk in computed]  # one a cut, so that a trial fetches only its own
            done += parts[number].stop - parts[number].start
            progress.note(f"frozen activations: {done}/{len(images)} images × {len(transforms)} views")
    return {cut: [kept[number][place] for number in range(len(parts))] for place, cut in enumerate(cuts)}


def _next_answer(asked: list[Any], progress: Progress) -> Any:
    answers, _ = ray.wait(asked, timeout=WAITING_SECONDS)
    if not answers:
        progress.note("frozen activations: no worker is there yet, or none is done; other work may fill the cluster")
        answers, _ = ray.wait(asked)
    return answers[0]


def _start_workers(study: StudyRun, cuts: tuple[str, ...], cpus: float, gpu: float) -> list[Any]:
    there = ray.cluster_resources()  # not what an autoscaler may add, or a part would wait for a node that never comes
    fit = there.get("GPU", 0.0) / gpu if gpu else there.get("CPU", 0.0) / cpus
    count = max(1, min(len(list(chunks(len(study.data.images)))), int(fit + 1e-6)))
    actor = ray.remote(num_cpus=cpus, num_gpus=gpu, max_restarts=RESTARTS, max_task_retries=RESTARTS)(_FrozenWorker)
    return [actor.remote(cuts, study.plan.profile.model, cpus, gpu) for _ in range(count)]


class _FrozenWorker:
    """Gets the weights with each part and not once: an actor that is started again needs its arguments anew."""

    def __init__(self, cuts: tuple[str, ...], model: ModelConfig, cpus: float, gpu: float) -> None:
        limit_process(cpus, gpu)
        self._cuts, self._model = cuts, model
        self._backbone: FrozenBackbone | None = None

    def ready(self) -> None:
        """Answered as soon as this worker has found its place."""

    def compute(self, imagenet: BackboneWeights, images: np.ndarray, transforms: np.ndarray) -> tuple[Any, ...]:
        backbone = self._backbone = self._backbone or FrozenBackbone(self._cuts, self._model, imagenet)
        views = [backbone.activations(images, view) for view in transforms]
        return tuple(np.stack([view[cut] for view in views]) for cut in self._cuts)

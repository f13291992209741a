"""Frozen activations on Ray: computed once by as many workers as fit, kept in the object store for all folds.

The driver's own node keeps them, and the other nodes fetch them from it. A node that computed some may be lost, and its
part could then be computed again only by its workers' actors; without the driver's node the study ends anyway.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from cxr_platform.config import ModelConfig
from cxr_platform.errors import StudyError, last_line
from cxr_platform.models.frozen import FrozenBackbone, chunks
from cxr_platform.models.initial_weights import BackboneWeights
from cxr_platform.progress import Progress
from cxr_platform.training.devices import is_deterministic, limit_process
from cxr_platform.training.plan import Share
from cxr_platform.training.study import ACTIVATIONS, FrozenTask, StudyRun, frozen_tasks

WAITING_SECONDS = 60.0
"""Time without an answer of any worker after which a message says so."""

RESTARTS = 20
"""How often a lost worker is restarted, and each part tried; a part that kills its process ends there."""


def compute_activations(
    study: StudyRun, cuts: tuple[str, ...], share: Share, progress: Progress
) -> dict[str, list[Any]]:
    """Return cut → references to chunks (1 + views, n, …) float16 of the images of `frozen_tasks`, in order.

    Parts go to the workers that have been placed; a worker for which the cluster has no room is not waited for. The
    part of a lost worker is computed by another one. Raises `StudyError` if a worker cannot compute its part.
    """
    if not cuts or study.imagenet is None:
        return {}
    tasks = frozen_tasks(study, cuts)
    parts = [Part(task, rows) for task in tasks for rows in chunks(len(task.images))]
    workers = _start_workers(study, len(parts), share)
    try:
        return _gather(study, parts, workers, progress)
    except ray.exceptions.RayError as error:
        raise StudyError(
            "Expected the workers to compute the frozen activations.",
            received=last_line(error),
            advice="With little memory, lower augmentation.views or raise resources.gpu, so that fewer run at once.",
        ) from error
    finally:
        for worker in workers:
            ray.kill(worker)


@dataclass(frozen=True)
class Part:
    """What a worker computes at once: the activations of some `rows` of a task."""

    task: FrozenTask
    rows: slice

    @property
    def count(self) -> int:
        """Number of images."""
        return int(self.rows.stop - self.rows.start)


def _start_workers(study: StudyRun, parts: int, share: Share) -> list[Any]:
    present = ray.cluster_resources()  # without what an autoscaler may add: that node may never come
    fit = present.get("GPU", 0.0) / share.gpus if share.gpus else present.get("CPU", 0.0) / share.cpus
    count = max(1, min(parts, int(fit + 1e-6)))
    actor = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus, max_restarts=RESTARTS, max_task_retries=RESTARTS)(
        _FrozenWorker
    )
    profile = study.plan.profile
    deterministic = is_deterministic(profile.resources, share.gpus)
    return [actor.remote(profile.model, share, deterministic) for _ in range(count)]


def _gather(study: StudyRun, parts: Sequence[Part], workers: list[Any], progress: Progress) -> dict[str, list[Any]]:
    weights, left = ray.put(study.imagenet), deque(range(len(parts)))
    requests: dict[Any, tuple[Any, int | None]] = {worker.ready.remote(): (worker, None) for worker in workers}
    stored: dict[int, list[Any]] = {}
    while len(stored) < len(parts):
        answer = _next_answer(list(requests), progress)
        worker, number = requests.pop(answer)
        if left:
            part = parts[left[0]]
            task, rows = part.task, part.rows
            request = worker.compute.remote(weights, task.cuts, task.images[rows], task.transforms[:, rows])
            requests[request] = worker, left.popleft()
        else:  # leave its place to a worker that is restarted and still has a part to compute
            ray.kill(worker)
        computed = ray.get(answer)
        if number is not None:
            stored[number] = [ray.put(chunk) for chunk in computed]  # one per cut: a trial fetches only its own
            done = sum(parts[each].count for each in stored)
            progress.step(ACTIVATIONS, done, sum(part.count for part in parts))
    activations: dict[str, list[Any]] = {}
    for number, part in enumerate(parts):
        for cut, chunk in zip(part.task.cuts, stored[number], strict=True):
            activations.setdefault(cut, []).append(chunk)
    return activations


def _next_answer(requests: list[Any], progress: Progress) -> Any:
    answers, _ = ray.wait(requests, timeout=WAITING_SECONDS)
    if not answers:
        progress.message(f"{ACTIVATIONS}: no worker has started or finished yet; other work may fill the cluster")
        answers, _ = ray.wait(requests)
    return answers[0]


class _FrozenWorker:
    """Receives the weights with each part, since an actor that is restarted needs its arguments again."""

    def __init__(self, model: ModelConfig, share: Share, deterministic: bool) -> None:
        limit_process(share.cpus, share.gpus, deterministic)
        self._model = model
        self._backbones: dict[tuple[str, ...], FrozenBackbone] = {}

    def ready(self) -> None:
        """Answer as soon as this worker has been placed."""

    def compute(
        self, imagenet: BackboneWeights, cuts: tuple[str, ...], images: NDArray[Any], transforms: NDArray[Any]
    ) -> tuple[Any, ...]:
        if cuts not in self._backbones:
            self._backbones[cuts] = FrozenBackbone(cuts, self._model, imagenet)
        views = [self._backbones[cuts].activations(images, view) for view in transforms]
        return tuple(np.stack([view[cut] for view in views]) for cut in cuts)

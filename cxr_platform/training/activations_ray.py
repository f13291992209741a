"""Frozen activations on Ray: computed once by as many workers as fit, kept in the object store for all folds.

The driver's own node keeps them, and the other nodes fetch them from it. A node that computed some may be lost, and its
part could then be computed again only by its workers' actors; without the driver's node the study ends anyway.
"""

from collections import deque
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from cxr_platform.config import ModelConfig
from cxr_platform.errors import StudyError, last_line
from cxr_platform.models.frozen import FrozenBackbone, chunks, view_transforms
from cxr_platform.models.initial_weights import BackboneWeights
from cxr_platform.progress import Progress
from cxr_platform.training.devices import is_deterministic, limit_process
from cxr_platform.training.plan import Share
from cxr_platform.training.study import ACTIVATIONS, StudyRun

WAITING_SECONDS = 60.0
"""Time without an answer of any worker after which a message says so."""

RESTARTS = 20
"""How often a lost worker is restarted, and each part tried; a part that kills its process ends there."""


def compute_activations(
    study: StudyRun, cuts: tuple[str, ...], share: Share, progress: Progress
) -> dict[str, list[Any]]:
    """Return cut → references to chunks (1 + views, n, …) float16 of all study images, in order.

    Parts go to the workers that have been placed; a worker for which the cluster has no room is not waited for. The
    part of a lost worker is computed by another one. Raises `StudyError` if a worker cannot compute its part.
    """
    if not cuts or study.imagenet is None:
        return {}
    workers = _start_workers(study, cuts, share)
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


def _start_workers(study: StudyRun, cuts: tuple[str, ...], share: Share) -> list[Any]:
    present = ray.cluster_resources()  # without what an autoscaler may add: that node may never come
    fit = present.get("GPU", 0.0) / share.gpus if share.gpus else present.get("CPU", 0.0) / share.cpus
    count = max(1, min(len(list(chunks(len(study.data.images)))), int(fit + 1e-6)))
    actor = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus, max_restarts=RESTARTS, max_task_retries=RESTARTS)(
        _FrozenWorker
    )
    profile = study.plan.profile
    deterministic = is_deterministic(profile.resources, share.gpus)
    return [actor.remote(cuts, profile.model, share, deterministic) for _ in range(count)]


def _gather(study: StudyRun, cuts: tuple[str, ...], workers: list[Any], progress: Progress) -> dict[str, list[Any]]:
    profile, images = study.plan.profile, study.data.images
    transforms = view_transforms(len(images), profile.model.input_size, profile.augmentation, profile.seed)
    parts = list(chunks(len(images)))
    weights, left = ray.put(study.imagenet), deque(range(len(parts)))
    requests: dict[Any, tuple[Any, int | None]] = {worker.ready.remote(): (worker, None) for worker in workers}
    stored: dict[int, list[Any]] = {}
    done = 0
    while len(stored) < len(parts):
        answer = _next_answer(list(requests), progress)
        worker, number = requests.pop(answer)
        if left:
            part = parts[left[0]]
            request = worker.compute.remote(weights, images[part], transforms[:, part])
            requests[request] = worker, left.popleft()
        else:  # leave its place to a worker that is restarted and still has a part to compute
            ray.kill(worker)
        computed = ray.get(answer)
        if number is not None:
            stored[number] = [ray.put(chunk) for chunk in computed]  # one per cut: a trial fetches only its own
            done += parts[number].stop - parts[number].start
            progress.step(ACTIVATIONS, done, len(images))
    return {cut: [stored[number][place] for number in range(len(parts))] for place, cut in enumerate(cuts)}


def _next_answer(requests: list[Any], progress: Progress) -> Any:
    answers, _ = ray.wait(requests, timeout=WAITING_SECONDS)
    if not answers:
        progress.message(f"{ACTIVATIONS}: no worker has started or finished yet; other work may fill the cluster")
        answers, _ = ray.wait(requests)
    return answers[0]


class _FrozenWorker:
    """Receives the weights with each part, since an actor that is restarted needs its arguments again."""

    def __init__(self, cuts: tuple[str, ...], model: ModelConfig, share: Share, deterministic: bool) -> None:
        limit_process(share.cpus, share.gpus, deterministic)
        self._cuts, self._model = cuts, model
        self._backbone: FrozenBackbone | None = None

    def ready(self) -> None:
        """Answer as soon as this worker has been placed."""

    def compute(self, imagenet: BackboneWeights, images: NDArray[Any], transforms: NDArray[Any]) -> tuple[Any, ...]:
        backbone = self._backbone = self._backbone or FrozenBackbone(self._cuts, self._model, imagenet)
        views = [backbone.activations(images, view) for view in transforms]
        return tuple(np.stack([view[cut] for view in views]) for cut in self._cuts)

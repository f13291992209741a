"""Frozen activations on Ray: computed once by as many workers as fit, for all folds.

In memory they are in the object store. The driver's own node keeps them, and the other nodes fetch them from it. A node
that computed some may be lost, and its part could then be computed again only by its workers' actors; without the
driver's node the study ends anyway. What does not fit is written by the workers into files (`activations.files`).
"""

from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from cxr_platform.cluster import capacity
from cxr_platform.config import ModelConfig, Profile
from cxr_platform.domain.study import ActivationRates, TrialKey
from cxr_platform.errors import CxrError, StudyError, last_line
from cxr_platform.models.frozen import FrozenBackbone
from cxr_platform.models.initial_weights import BackboneWeights
from cxr_platform.progress import Progress
from cxr_platform.training.activations.files import ActivationFiles, CutFiles, Recomputed
from cxr_platform.training.activations.plan import ActivationPlan, Part, choose_storages, plan_activations
from cxr_platform.training.activations.rates import RateProbe
from cxr_platform.training.activations.storage import MEMORY_SHARE, Room
from cxr_platform.training.devices import is_deterministic, limit_process
from cxr_platform.training.plan import Share, cuts_of
from cxr_platform.training.study import ACTIVATIONS, Activations, StudyRun
from cxr_platform.training.study_need import room_on_disk

WAITING_SECONDS = 60.0
"""Time without an answer of any worker after which a message says so."""

RESTARTS = 20
"""How often a lost worker is restarted, and each part tried; a part that kills its process ends there."""


Stored = Mapping[str, Sequence[Any] | CutFiles | Recomputed]
"""As `study.Activations`, with references to chunks of the object store."""


def compute_activations(study: StudyRun, cuts: tuple[str, ...], share: Share, progress: Progress) -> Stored:
    """Return the activations at `cuts`, kept where `choose_storages` decides.

    Parts go to the workers that have been placed; a worker for which the cluster has no room is not waited for. The
    part of a lost worker is computed by another one. Raises `StudyError` if a worker cannot compute its part,
    `StorageError` if it cannot write it, `ConfigError` if there is no room for the activations.
    """
    if not cuts or study.imagenet is None:
        return {}
    measure = partial(_measured_rates, study.plan.profile, share) if share.gpus else None
    plan = plan_activations(study, cuts, choose_storages(study, cuts, _room(study, share), progress, measure))
    workers = _start_workers(study, len(plan.parts), share)
    try:
        computed = _answers(study, plan, workers, progress)
    except ray.exceptions.RayError as error:
        raise StudyError(
            "Expected the workers to compute the frozen activations.",
            received=last_line(error),
            advice="With little memory, lower augmentation.views or raise resources.gpu, so that fewer run at once.",
        ) from error
    finally:
        for worker in workers:
            ray.kill(worker)
    return plan.activations(computed)


def fetched_activations(activations: Stored, key: TrialKey) -> Activations:
    """Return what a trial needs of the result of `compute_activations`, in this process."""
    needed = {cut: activations[cut] for cut in cuts_of([key.strategy])}
    return {
        cut: chunks if isinstance(chunks, CutFiles | Recomputed) else ray.get(list(chunks))
        for cut, chunks in needed.items()
    }


def _room(study: StudyRun, share: Share) -> Room:
    """Return the room in the object stores, of which the driver's own node keeps all, and on disk.

    Trials at a time are those of the largest node, also of one that an autoscaler may start later.
    """
    own = ray.get_runtime_context().get_node_id()
    stores = {
        node["NodeID"]: node["Resources"].get("object_store_memory", 0.0) for node in ray.nodes() if node["Alive"]
    }
    at_once = capacity().most_on_a_node(share.cpus, share.gpus)
    return Room(MEMORY_SHARE * stores[own], MEMORY_SHARE * min(stores.values()), *room_on_disk(study, at_once))


def _measured_rates(profile: Profile, share: Share, probe: RateProbe) -> ActivationRates:
    """Return the rates of a node with as many GPUs as the largest has, measured by a process with `share` on one."""
    gpus = max(1.0, *(node["Resources"].get("GPU", 0.0) for node in ray.nodes() if node["Alive"]))
    deterministic = is_deterministic(profile.resources, share.gpus)
    place = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus)(_rates_here)
    try:
        rates: ActivationRates = ray.get(place.remote(probe, share, deterministic, gpus))
    except ray.exceptions.RayError as error:
        raise StudyError("Expected a worker to measure rates.", received=last_line(error)) from error
    return rates


def _rates_here(probe: RateProbe, share: Share, deterministic: bool, gpus: float) -> ActivationRates:
    limit_process(share.cpus, share.gpus, deterministic)
    return probe.rates(gpus)


def _start_workers(study: StudyRun, parts: int, share: Share) -> list[Any]:
    present = ray.cluster_resources()  # without what an autoscaler may add: that node may never come
    fit = present.get("GPU", 0.0) / share.gpus if share.gpus else present.get("CPU", 0.0) / share.cpus
    count = min(parts, max(1, int(fit + 1e-6)))
    actor = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus, max_restarts=RESTARTS, max_task_retries=RESTARTS)(
        _FrozenWorker
    )
    profile = study.plan.profile
    deterministic = is_deterministic(profile.resources, share.gpus)
    return [actor.remote(profile.model, share, deterministic) for _ in range(count)]


def _answers(study: StudyRun, plan: ActivationPlan, workers: list[Any], progress: Progress) -> list[list[Any]]:
    """Return for each part of `plan` references to its chunks, one per cut; none if they are in a file."""
    weights, left = ray.put(study.imagenet), deque(range(len(plan.parts)))
    requests: dict[Any, tuple[Any, int | None]] = {worker.ready.remote(): (worker, None) for worker in workers}
    answers: dict[int, list[Any]] = {}
    done = 0
    while len(answers) < len(plan.parts):
        answer = _next_answer(list(requests), progress)
        worker, number = requests.pop(answer)
        if left:
            given = left.popleft()
            requests[_request(worker, plan.parts[given], weights)] = worker, given
        else:  # leave its place to a worker that is restarted and still has a part to compute
            ray.kill(worker)
        computed = ray.get(answer)
        if isinstance(computed, CxrError):
            raise computed
        if number is not None:
            answers[number] = [ray.put(chunk) for chunk in computed]  # one per cut: a trial fetches only its own
            done += len(plan.parts[number].rows)
            progress.step(ACTIVATIONS, done, plan.images)
    return [answers[number] for number in range(len(plan.parts))]


def _request(worker: Any, part: Part, weights: Any) -> Any:
    images, transforms = part.task.images[part.rows], part.task.transforms[:, part.rows]
    return worker.compute.remote(weights, part.task.cuts, images, transforms, part.number, part.files)


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
        self,
        imagenet: BackboneWeights,
        cuts: tuple[str, ...],
        images: NDArray[Any],
        transforms: NDArray[Any],
        number: int,
        files: ActivationFiles | None,
    ) -> tuple[NDArray[Any], ...] | CxrError:
        """Return the chunks of all cuts, or write them to the files `number` and return none, or the error of that."""
        if cuts not in self._backbones:
            self._backbones[cuts] = FrozenBackbone(cuts, self._model, imagenet)
        views = [self._backbones[cuts].activations(images, view) for view in transforms]
        arrays = {cut: np.stack([view[cut] for view in views]) for cut in cuts}
        if files is None:
            return tuple(arrays.values())
        try:
            files.write(number, arrays)
        except CxrError as error:
            return error
        return ()

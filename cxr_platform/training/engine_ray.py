"""Each trial as a Ray Tune trial with its share of processors and of a card.

Tune places trials and tries failed ones again. What is finished is not Tune's to remember: every trial stores itself in
the study's folder, so that a study continues without Tune's own (pickled) state.
"""

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from ray import tune

from cxr_platform.cluster import connection
from cxr_platform.config import ResourcesConfig
from cxr_platform.models.frozen import FrozenBackbone, chunks, view_transforms
from cxr_platform.models.start import BackboneWeights
from cxr_platform.training.devices import gpu_share, limit_process
from cxr_platform.training.plan import TrialKey, cuts_of
from cxr_platform.training.progress import Progress
from cxr_platform.training.study import Study, execute_trial, inputs_of
from cxr_platform.training.trial import Epoch, Workbench


@dataclass(frozen=True)
class Shared:
    """What all trials read from the object store: the study, and cut → references to chunks of activations."""

    study: Study
    activations: Mapping[str, Sequence[Any]]
    cpus: float
    gpu: float


class RayEngine:
    """An `Engine` on the cluster at `address`, or on a private Ray instance of this machine."""

    def __init__(self, address: str | None = None) -> None:
        self._address = address

    def __call__(self, study: Study, todo: list[TrialKey], progress: Progress) -> dict[TrialKey, str]:
        """Run `todo`; returns the failures. Raises `KeyboardInterrupt` when the user stopped Tune."""
        with connection(self._address):
            outcome = _run(study, todo, progress)
        if any(key not in outcome and not study.folder.is_finished(key) for key in todo):
            raise KeyboardInterrupt
        return outcome


def trial_resources(resources: ResourcesConfig) -> tuple[float, float]:
    """Processors and fraction of a card a trial, no more processors than the cluster has."""
    available = ray.cluster_resources()
    cpus = min(resources.cpu, available.get("CPU", 1.0))
    return cpus, gpu_share(resources, available.get("GPU", 0.0), available.get("CPU", 1.0))


def compute_activations(
    study: Study, cuts: tuple[str, ...], cpus: float, gpu: float, progress: Progress
) -> dict[str, list[Any]]:
    """Cut → references to chunks (1 + views, n, …) float16, computed by as many workers as fit, once for all folds."""
    if not cuts or study.imagenet is None:
        return {}
    profile, films = study.plan.profile, study.data.films
    transforms = view_transforms(len(films), profile.model.input_size, profile.augmentation, profile.seed)
    parts = list(chunks(len(films)))
    workers = _start_workers(study, cuts, cpus, gpu, len(parts))
    # One reference a cut, so that a trial fetches only its own.
    pending = [
        workers[i % len(workers)].compute.options(num_returns=len(cuts)).remote(films[part], transforms[:, part])
        for i, part in enumerate(parts)
    ]
    references = [[ref] if len(cuts) == 1 else list(ref) for ref in pending]
    for part, refs in zip(parts, references, strict=True):
        ray.wait([refs[0]])
        progress.note(f"frozen activations: {part.stop}/{len(films)} films × {len(transforms)} views")
    ray.get([worker.ready.remote() for worker in workers])
    for worker in workers:
        ray.kill(worker)
    return {cut: [refs[i] for refs in references] for i, cut in enumerate(cuts)}


def _start_workers(study: Study, cuts: tuple[str, ...], cpus: float, gpu: float, most: int) -> list[Any]:
    available = ray.cluster_resources()
    fit = available.get("GPU", 0.0) // gpu if gpu else available.get("CPU", 1.0) // cpus
    count = max(1, min(most, int(fit)))
    weights = ray.put(study.imagenet)
    actor = ray.remote(num_cpus=cpus, num_gpus=gpu)(_FrozenWorker)
    return [actor.remote(cuts, study.plan.profile.model, weights, cpus, gpu) for _ in range(count)]


class _FrozenWorker:
    def __init__(self, cuts: tuple[str, ...], model: Any, imagenet: BackboneWeights, cpus: float, gpu: float) -> None:
        limit_process(cpus, gpu)
        self._backbone = FrozenBackbone(cuts, model, imagenet)
        self._cuts = cuts

    def ready(self) -> bool:
        """Answer once everything before has been computed."""
        return True

    def compute(self, films: np.ndarray, transforms: np.ndarray) -> Any:
        views = [self._backbone.activations(films, view) for view in transforms]
        stacked = [np.stack([view[cut] for view in views]) for cut in self._cuts]
        return stacked if len(stacked) > 1 else stacked[0]


def _run(study: Study, todo: list[TrialKey], progress: Progress) -> dict[TrialKey, str]:
    cpus, gpu = trial_resources(study.plan.profile.resources)
    activations = compute_activations(study, cuts_of([key.strategy for key in todo]), cpus, gpu, progress)
    return _tune(Shared(study, activations, cpus, gpu), todo, progress)


def _tune(shared: Shared, todo: list[TrialKey], progress: Progress) -> dict[TrialKey, str]:
    _silence_tune()
    scratch_folder = shared.study.folder.root / "tune"
    shutil.rmtree(scratch_folder, ignore_errors=True)
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(_trial, shared=shared), {"cpu": shared.cpus, "gpu": shared.gpu}),
        param_space={"trial": tune.grid_search([tuple(key) for key in todo])},
        tune_config=tune.TuneConfig(reuse_actors=True, trial_dirname_creator=_folder_name),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(shared.study.folder.root.resolve()),
            failure_config=tune.FailureConfig(max_failures=shared.study.plan.profile.resources.retries),
            callbacks=[_Report(progress)],
            verbose=0,
        ),
    )
    failed = [result for result in tuner.fit() if result.error is not None]
    if not failed:
        shutil.rmtree(scratch_folder, ignore_errors=True)
    return {TrialKey(*result.config["trial"]): _reason(result.error) for result in failed}


def _trial(config: dict[str, Any], shared: Shared) -> None:
    """The Tune function. Actors are reused, so the workbench of this process serves every trial that lands here."""
    key = TrialKey(*config["trial"])
    activations = {cut: ray.get(list(shared.activations[cut])) for cut in cuts_of([key.strategy])}
    bench = _workbench(shared)
    summary = execute_trial(shared.study, bench, key, inputs_of(shared.study, key, activations), _tell)
    tune.report({"summary": summary})


def _tell(epoch: Epoch) -> None:
    tune.report({"epoch": vars(epoch)})


_kept: dict[str, Workbench] = {}


def _workbench(shared: Shared) -> Workbench:
    profile = shared.study.plan.profile
    token = repr((profile.model, profile.training))
    if token not in _kept:
        if not _kept:
            limit_process(shared.cpus, shared.gpu)
        _kept.clear()
        _kept[token] = Workbench(profile.model, profile.training, shared.study.imagenet)
    return _kept[token]


class _Report(tune.Callback):
    """Hands what Tune hears from trials to the progress display."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def on_trial_result(self, **info: Any) -> None:
        key, result = TrialKey(*info["trial"].config["trial"]), info["result"]
        if "summary" in result:
            self._progress.finished(key, result["summary"])
        elif "epoch" in result:
            self._progress.epoch(key, Epoch(**result["epoch"]))

    def on_trial_error(self, **info: Any) -> None:
        self._progress.failed(TrialKey(*info["trial"].config["trial"]), _reason(info["trial"].get_error()))

    def on_trial_recover(self, **info: Any) -> None:
        self._progress.note(f"{TrialKey(*info['trial'].config['trial'])} failed and is tried again")

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles callbacks into its own state, which is never read again; a terminal cannot be pickled."""
        return {}


def _silence_tune() -> None:
    """Our own display takes the place of Tune's tables, banners and result files."""
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    logging.getLogger("ray.tune").setLevel(logging.ERROR)


def _folder_name(trial: Any) -> str:
    return "-".join(str(part) for part in trial.config["trial"])


def _reason(error: BaseException | None) -> str:
    """The last line of what a trial died of: the exception that a person should read."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else "died without a word"

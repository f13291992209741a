"""Each trial as a Ray Tune trial with its share of processors and of a GPU.

Tune places trials and tries failed ones again. What is finished is not Tune's to remember: every trial stores itself in
the study's folder, so that a study continues without Tune's own (pickled) state.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune

from cxr_platform.cluster import capacity, connection
from cxr_platform.config import ResourcesConfig
from cxr_platform.domain.study import TrialKey
from cxr_platform.errors import ConfigError, CxrError, StudyError, last_line
from cxr_platform.storage.files import cannot_write, remove
from cxr_platform.storage.paths import arrow_filesystem
from cxr_platform.training.activations_ray import compute_activations
from cxr_platform.training.devices import gpu_memory_gib, gpu_share, limit_process
from cxr_platform.training.plan import Share, cuts_of
from cxr_platform.training.progress import Progress
from cxr_platform.training.study import StudyRun, execute_trial, inputs_of
from cxr_platform.training.trial import Epoch, Workbench
from cxr_platform.training.tune_hooks import LOST, InOrder, Stop, Watch


@dataclass(frozen=True)
class Shared:
    """What all trials read from the object store: the study, and cut → references to chunks of activations."""

    study: StudyRun
    activations: Mapping[str, Sequence[Any]]
    share: Share


class RayEngine:
    """An `Engine` on the cluster at `address`, or on a private Ray instance of this machine."""

    def __init__(self, address: str | None = None) -> None:
        self._address = address

    def __call__(self, study: StudyRun, todo: list[TrialKey], progress: Progress) -> dict[TrialKey, str]:
        """Run `todo`; returns the failures. Raises `KeyboardInterrupt` when the user stopped Tune."""
        with connection(self._address):
            cpus, gpu = trial_resources(study.plan.profile.resources, len(todo))
            activations = compute_activations(study, cuts_of([key.strategy for key in todo]), cpus, gpu, progress)
            progress.training_begins()
            return _rounds(Shared(study, activations, Share(cpus, gpu)), todo, progress)


def trial_resources(resources: ResourcesConfig, trials: int) -> tuple[float, float]:
    """Processors and fraction of a GPU for each of `trials`: no more processors than the largest node has.

    What counts is the cluster, whatever the driver's machine has, and what the cluster may grow to (`capacity`); of
    trials with a GPU, the nodes that have one. Raises `ConfigError` where a GPU is asked for and none can be had: the
    trials would wait for ever.
    """
    found = capacity(with_gpu=resources.gpu != 0)
    if resources.gpu != "auto" and resources.gpu > found.gpus:
        raise ConfigError(
            f"Expected a cluster with the GPU that resources.gpu = {resources.gpu} asks for.",
            received=f"{found.gpus:g} GPUs",
            advice='Write gpu = "auto" into the profile, or 0.',
        )
    if not found.gpus:
        return min(resources.cpu, capacity().largest_cpus), 0.0
    wants_gpu = resources.gpu == "auto"
    memory = ray.get(ray.remote(num_gpus=0.001)(gpu_memory_gib).remote()) if wants_gpu else None
    share = gpu_share(resources, found.gpus, found.cpus, memory, trials)
    return min(resources.cpu, found.largest_cpus), share


def _rounds(shared: Shared, todo: list[TrialKey], progress: Progress) -> dict[TrialKey, str]:
    """Run `todo`, and what lost its process or its node too often once more, as long as that gets further.

    Tune counts a lost node as a failure of its trial. A profile's `retries` are for what fails by itself; trials on
    machines that come and go end all the same, since each try goes on where the last one was cut off.
    """
    failures: dict[TrialKey, str] = {}
    while todo:
        before = _positions(shared.study, todo)
        found = _tune(shared, todo, progress)
        lost = [key for key, failure in found.items() if failure.lost]
        further = len(lost) < len(todo) or _positions(shared.study, lost) != {key: before[key] for key in lost}
        todo = lost if further else []
        failures |= {key: failure.reason for key, failure in found.items() if key not in todo}
        for key in () if further else lost:
            progress.failed(key, found[key].reason)
        if todo:
            progress.note(f"{len(todo)} trials lost their machines and go on from their last checkpoints")
    return failures


def _positions(study: StudyRun, keys: Sequence[TrialKey]) -> dict[TrialKey, int]:
    return {key: study.folder.last_epoch(key) for key in keys}


def _tune(shared: Shared, todo: list[TrialKey], progress: Progress) -> "dict[TrialKey, _Failure]":
    _silence_tune()
    folder = shared.study.folder
    remove(folder.root / "tune")
    stop = Stop(folder)
    failures = _fit(_tuner(shared, todo, Watch(progress), stop), folder.root)
    if stop.error is not None:
        raise stop.error
    failures = {key: failure for key, failure in failures.items() if not folder.is_finished(key)}
    if any(key not in failures and not folder.is_finished(key) for key in todo):
        raise KeyboardInterrupt
    if not failures:
        remove(folder.root / "tune")
    return failures


def _tuner(shared: Shared, todo: list[TrialKey], watch: Watch, stop: Stop) -> tune.Tuner:
    storage_path, storage_filesystem = arrow_filesystem(shared.study.folder.root)
    return tune.Tuner(
        tune.with_resources(
            tune.with_parameters(_trial, shared=shared), {"cpu": shared.share.cpus, "gpu": shared.share.gpus}
        ),
        param_space={"trial": tune.grid_search([tuple(key) for key in todo])},
        tune_config=tune.TuneConfig(reuse_actors=True, trial_dirname_creator=_folder_name, scheduler=InOrder()),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=storage_path,
            storage_filesystem=storage_filesystem,
            failure_config=tune.FailureConfig(max_failures=shared.study.plan.profile.resources.retries),
            callbacks=[watch],
            stop=stop,
            verbose=0,
        ),
    )


@dataclass(frozen=True)
class _Failure:
    """Why a trial failed for good, and whether it was the machine's fault."""

    reason: str
    lost: bool


def _fit(tuner: tune.Tuner, place: Path) -> dict[TrialKey, _Failure]:
    try:
        results = tuner.fit()
    except OSError as error:
        raise cannot_write(place, error) from error  # with the file: Tune writes into Ray's own folder too
    except tune.TuneError as error:
        raise StudyError("Expected Ray Tune to run the trials.", received=last_line(error)) from error
    failed = (result for result in results if result.error is not None)
    return {TrialKey(*r.config["trial"]): _Failure(last_line(r.error), isinstance(r.error, LOST)) for r in failed}


def _trial(config: dict[str, Any], shared: Shared) -> None:
    """The Tune function. Actors are reused, so the workbench of this process serves every trial that lands here.

    An error that says what is expected (a full disk) is handed to the driver, which ends the study if no other trial
    would escape it; else it is a failure as any other, and the trial is tried again, perhaps on another node.
    """
    key = TrialKey(*config["trial"])
    if shared.study.folder.is_finished(key):  # stored by a worker that died before it could say so
        tune.report({"record": shared.study.folder.trial_record(key)})
        return
    activations = {cut: ray.get(list(shared.activations[cut])) for cut in cuts_of([key.strategy])}
    bench, inputs = _workbench(shared), inputs_of(shared.study, key, activations)
    try:
        record = execute_trial(shared.study, bench, key, inputs, shared.share, _tell)
    except CxrError as error:
        tune.report({"refused": error, "key": key})
        raise
    else:
        tune.report({"record": record})


def _tell(epoch: Epoch) -> None:
    tune.report({"epoch": vars(epoch)})


_kept: dict[str, Workbench] = {}


def _workbench(shared: Shared) -> Workbench:
    profile = shared.study.plan.profile
    token = repr((profile.model, profile.training))
    if token not in _kept:
        if not _kept:
            limit_process(shared.share.cpus, shared.share.gpus)
        _kept.clear()
        _kept[token] = Workbench(profile.model, profile.training, shared.study.imagenet)
    return _kept[token]


def _silence_tune() -> None:
    """Our own display takes the place of Tune's tables, banners and result files."""
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    logging.getLogger("ray.tune").setLevel(logging.ERROR)


def _folder_name(trial: Any) -> str:
    return "-".join(str(part) for part in trial.config["trial"])

"""Run each trial as a Ray Tune trial with its share of processors and of a GPU.

Tune places trials and retries failed ones. It is not asked which trials are finished: every trial stores itself in the
study's folder, so that a study continues without Tune's own (pickled) state.
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import ray
from ray import tune

from cxr_platform.cluster import capacity, connection, tasks_on_node
from cxr_platform.config import Precision, Profile
from cxr_platform.domain.study import TrialKey
from cxr_platform.errors import ConfigError, CxrError, StudyError, last_line
from cxr_platform.ray_internals import NO_TUNE_TABLES
from cxr_platform.storage.files import cannot_write, remove, remove_unneeded, write_errors
from cxr_platform.storage.paths import arrow_filesystem
from cxr_platform.storage.trial_files import read_trial_states
from cxr_platform.training.activations.on_ray import Stored, compute_activations, fetched_activations
from cxr_platform.training.devices import (
    GIB_PER_TRIAL,
    backend_sees_gpu,
    gib_of_trial,
    gpu_memory_gib,
    gpu_share,
    is_deterministic,
    limit_process,
)
from cxr_platform.training.mps import mps_for
from cxr_platform.training.plan import Share, cuts_of
from cxr_platform.training.progress import StudyProgress
from cxr_platform.training.study import StudyRun, execute_trial, inputs_of, resolved_precision
from cxr_platform.training.trial import Epoch, Workbench
from cxr_platform.training.tune_hooks import LOST, PlannedOrder, StopStudy, TuneProgress

NO_TUNE_STATE = {"TUNE_GLOBAL_CHECKPOINT_S": str(10 * 365 * 24 * 3600)}
"""Tune writes its state, which is never read, at the beginning and the end only. By default it writes that of all
trials every 10 s, or so often that it takes 5 % of the driver's time.
Source: https://docs.ray.io/en/latest/tune/api/env.html"""


@dataclass(frozen=True)
class Shared:
    """What all trials read from the object store: the study, and cut → references to chunks of activations, or files of
    them."""

    study: StudyRun
    activations: Stored
    share: Share
    precision: Precision


@dataclass(frozen=True)
class Failure:
    """Why a trial failed for good, and whether its process or node was `lost`."""

    reason: str
    lost: bool


def run(
    study: StudyRun, todo: list[TrialKey], progress: StudyProgress, address: str | None = None
) -> dict[TrialKey, str]:
    """Run `todo` on the cluster at `address`, or on a private Ray instance of this machine. An `Engine`.

    Raises `KeyboardInterrupt` if the user stopped Tune, `StudyMismatch` if earlier trials had another precision.
    """
    cluster = address or os.environ.get("RAY_ADDRESS")
    with mps_for(study.plan.profile.resources, cluster), connection(address):
        share = trial_resources(study.plan.profile, len(todo))
        precision = trial_precision(study.plan.profile.training.precision, share)
        study.folder.set_precision(precision)
        activations = compute_activations(study, cuts_of([key.strategy for key in todo]), share, progress)
        progress.training_begins()
        return run_rounds(Shared(study, activations, share, precision), todo, progress)


def trial_precision(setting: Literal["auto"] | Precision, share: Share) -> Precision:
    """Return the precision of all trials: "auto" is decided where one of them would run, by its GPU and libraries."""
    if setting != "auto" or not share.gpus:
        return resolved_precision(setting, Share(share.cpus, 0.0))
    place = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus)
    answer: Precision = ray.get(place(_precision_here).remote(setting, share))
    return answer


def _precision_here(setting: Literal["auto"] | Precision, share: Share) -> Precision:
    limit_process(share.cpus, share.gpus, deterministic=False)
    return resolved_precision(setting, share)


def trial_resources(profile: Profile, trials: int) -> Share:
    """Return the resources of each of `trials`: no more processors than the largest node has, and a share of a GPU.

    They depend on what the cluster has and may grow to (`capacity`), not on the driver's machine; with a GPU, on the
    nodes that have one. One of these is asked whether its backend sees it; else trials get none. Raises `ConfigError`
    if more GPUs are asked for than a node has: trials would wait forever.
    """
    resources = profile.resources
    cluster = capacity(with_gpu=resources.gpu != 0)
    most = max([0.0, *(node.get("GPU", 0.0) for node in cluster.nodes)])
    if resources.gpu != "auto" and resources.gpu > most:
        raise ConfigError(
            f"Expected a cluster with a node that has what resources.gpu = {resources.gpu:g} asks for.",
            received=f"{most:g} GPUs on the node that has most",
            advice='Write gpu = "auto" into the profile, or 0.',
        )
    if not cluster.gpus:
        return Share(min(resources.cpu, capacity().largest_cpus), 0.0)
    memory: float | None = ray.get(ray.remote(num_gpus=0.001)(_usable_gib).remote())
    if memory is None:
        return Share(min(resources.cpu, capacity().largest_cpus), 0.0)
    of_trial = gib_of_trial(profile.training.batch_size, profile.model.input_size)
    share = gpu_share(resources, cluster.gpus, cluster.cpus, memory, trials, of_trial)
    return Share(min(resources.cpu, cluster.largest_cpus), share)


def _usable_gib() -> float | None:
    """Return the memory of this node's GPU in GiB, or that of one trial if unknown; `None` if Keras does not see it."""
    return (gpu_memory_gib() or GIB_PER_TRIAL) if backend_sees_gpu() else None


def run_rounds(shared: Shared, todo: list[TrialKey], progress: StudyProgress) -> dict[TrialKey, str]:
    """Run `todo`, then again the trials that lost their process or node too often, as long as they make progress.

    Tune counts a lost node as a failure of its trial, but a profile's `retries` are for trials that fail by themselves.
    Since each attempt continues from the last checkpoint, a study also ends on machines that come and go.
    """
    failures: dict[TrialKey, str] = {}
    while todo:
        before = _last_epochs(shared.study, todo)
        failed = _tune(shared, todo, progress)
        lost = [key for key, failure in failed.items() if failure.lost]
        advanced = len(lost) < len(todo) or _last_epochs(shared.study, lost) != {key: before[key] for key in lost}
        todo = lost if advanced else []
        failures |= {key: failure.reason for key, failure in failed.items() if key not in todo}
        for key in () if advanced else lost:
            progress.failed(key, failed[key].reason)
        if todo:
            progress.message(f"{len(todo)} trials lost their machines and continue from their last checkpoints")
    return failures


def _last_epochs(study: StudyRun, keys: Sequence[TrialKey]) -> dict[TrialKey, int]:
    states = read_trial_states(study.folder.root, keys)
    return {key: state.epoch if (state := states.get(key)) is not None else 0 for key in keys}


def _tune(shared: Shared, todo: list[TrialKey], progress: StudyProgress) -> dict[TrialKey, Failure]:
    _silence_tune()
    folder = shared.study.folder
    with write_errors(folder.root):
        remove(folder.root / "tune")
    stop = StopStudy(folder)
    failures = _fit(_tuner(shared, todo, TuneProgress(progress), stop), folder.root)
    if stop.error is not None:
        raise stop.error
    finished = folder.finished(todo)
    failures = {key: failure for key, failure in failures.items() if key not in finished}
    if any(key not in failures and key not in finished for key in todo):
        raise KeyboardInterrupt
    if not failures:
        remove_unneeded(folder.root / "tune")
    return failures


def _silence_tune() -> None:
    """Turn off Tune's tables, banners and result files, which `StudyProgress` replaces, and copies of its state."""
    os.environ.update(NO_TUNE_TABLES | NO_TUNE_STATE)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)


def _tuner(shared: Shared, todo: list[TrialKey], callback: TuneProgress, stop: StopStudy) -> tune.Tuner:
    storage_path, storage_filesystem = arrow_filesystem(shared.study.folder.root)
    needs = {"CPU": shared.share.cpus, "GPU": shared.share.gpus}
    keys = iter(todo)  # not a grid: Tune copies all its values for each of its trials
    return tune.Tuner(
        tune.with_resources(tune.with_parameters(_trial, shared=shared), needs),
        param_space={"trial": tune.sample_from(lambda _: tuple(next(keys)))},
        tune_config=tune.TuneConfig(
            num_samples=len(todo),
            reuse_actors=True,
            trial_dirname_creator=lambda trial: "-".join(map(str, trial.config["trial"])),
            scheduler=PlannedOrder(partial(trial_places, shared.share)),
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=storage_path,
            storage_filesystem=storage_filesystem,
            failure_config=tune.FailureConfig(max_failures=shared.study.plan.profile.resources.retries),
            callbacks=[callback],
            stop=stop,
            verbose=0,
        ),
    )


def trial_places(share: Share) -> int:
    """Return how many trials the nodes that are alive can run at a time."""
    return sum(tasks_on_node(node["Resources"], share.cpus, share.gpus) for node in ray.nodes() if node["Alive"])


def _fit(tuner: tune.Tuner, root: Path) -> dict[TrialKey, Failure]:
    try:
        results = tuner.fit()
    except OSError as error:
        raise cannot_write(root, error) from error  # the error names the file: Tune writes into Ray's own folder too
    except tune.TuneError as error:
        raise StudyError("Expected Ray Tune to run the trials.", received=last_line(error)) from error
    failed = (result for result in results if result.error is not None)
    return {TrialKey(*r.config["trial"]): Failure(last_line(r.error), isinstance(r.error, LOST)) for r in failed}


def _trial(config: dict[str, Any], shared: Shared) -> None:
    """Run one trial in a worker. Workers are reused: the workbench of a process serves all trials placed in it.

    A `CxrError` (such as a full disk) is reported to the driver, which stops the study if it would affect every trial.
    Otherwise it is a failure like any other, and the trial is tried again, perhaps on another node.
    """
    key = TrialKey(*config["trial"])
    if shared.study.folder.is_finished(key):  # stored by a worker that died before it could report
        tune.report({"record": shared.study.folder.trial_record(key)})
        return
    try:
        activations = fetched_activations(shared.activations, key)
        bench, inputs = _workbench(shared), inputs_of(shared.study, key, activations)
        record = execute_trial(shared.study, bench, key, inputs, shared.share, _report_epoch, _report_note)
    except LOST:  # of the activations' node, not of this trial's
        raise
    except Exception as error:
        refused = {"refused": error, "key": key} if isinstance(error, CxrError) else {}
        tune.report({**refused, "failure": last_line(error)})
        raise
    tune.report({"record": record})


def _report_epoch(epoch: Epoch) -> None:
    tune.report({"epoch": epoch})  # as an object: Tune would keep statistics of numbers, 2 kB each for every trial


def _report_note(text: str) -> None:
    tune.report({"note": text})


_kept: dict[str, Workbench] = {}


def _workbench(shared: Shared) -> Workbench:
    """Return the workbench of this process."""
    profile, share = shared.study.plan.profile, shared.share
    token = repr((profile.model, profile.training, shared.precision))
    if token not in _kept:
        if not _kept:
            limit_process(share.cpus, share.gpus, is_deterministic(profile.resources, share.gpus))
        _kept.clear()
        _kept[token] = shared.study.workbench(share, shared.precision)
    return _kept[token]

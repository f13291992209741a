"""Run a study: its unfinished trials on an engine, then the pooled predictions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cxr_platform.config import Precision, ResourcesConfig, Storage
from cxr_platform.domain.strategies import VIEWS, strategy_by_name
from cxr_platform.domain.study import TrialImages, TrialKey, TrialRecord, TrialSeconds
from cxr_platform.errors import TrialsFailed
from cxr_platform.models.frozen import view_transforms
from cxr_platform.models.initial_weights import BackboneWeights
from cxr_platform.storage.files import remove_unneeded
from cxr_platform.storage.node_cache import cache_use
from cxr_platform.training.activations.files import FOLDER, CutFiles, Recomputed
from cxr_platform.training.data import StudyData
from cxr_platform.training.devices import (
    hardware,
    is_deterministic,
    keras_backend,
    package_versions,
    precision_on,
    resident_bytes,
)
from cxr_platform.training.folder import StudyFolder
from cxr_platform.training.inputs import FrozenInputs, ImageInputs, Inputs, RecomputedInputs
from cxr_platform.training.mps import mps_is_running
from cxr_platform.training.plan import Share, StudyPlan, relative_cost
from cxr_platform.training.progress import StudyProgress
from cxr_platform.training.robust_trial import (
    RobustTrialData,
    ViewFeatures,
    robust_training_rows,
    robust_trial_data,
    run_robust_trial,
)
from cxr_platform.training.running_trial import ACTIVATIONS_KEPT, TrialHeartbeat, utc_now
from cxr_platform.training.step import Placement, gpu_is_visible
from cxr_platform.training.trial import (
    Epoch,
    Position,
    TrialData,
    Workbench,
    loss_fall,
    run_trial,
    trial_seed,
)


@dataclass(frozen=True)
class StudyRun:
    """Everything that an engine needs to run the trials of a plan."""

    plan: StudyPlan
    folder: StudyFolder
    data: StudyData
    imagenet: BackboneWeights | None
    of_champion: bool = False

    @property
    def activations_folder(self) -> Path:
        """Folder of the files of activations: a champion, which may be trained beside the study, has its own."""
        return (self.folder.champion_root if self.of_champion else self.folder.root) / FOLDER

    def workbench(self, share: Share, precision: Precision | None = None, devices: int = 1) -> Workbench:
        """Return the workbench of a process that runs trials with `share`.

        `precision` is that of the whole study, by default what this process resolves.
        """
        profile, gpus = self.plan.profile, _visible_gpus(share)
        precision = precision or resolved_precision(profile.training.precision, share, devices)
        placement = placement_of(profile.resources, gpus, devices)
        return Workbench(profile.model, profile.training, self.imagenet, precision, placement)


def placement_of(resources: ResourcesConfig, gpus: float, devices: int = 1) -> Placement:
    """Return how a process with `gpus` runs a step."""
    deterministic, resident = is_deterministic(resources, gpus), resident_bytes(gpus)
    return Placement(devices, deterministic, Placement.resident_bytes if resident is None else resident)


def resolved_precision(setting: Literal["auto"] | Precision, share: Share, devices: int = 1) -> Precision:
    """Return `training.precision` as this process computes trials with `share`, on one device or on several."""
    precision = precision_on(setting, _visible_gpus(share))
    # Keras checks for overflow on the first replica only.
    return "float32" if devices > 1 and precision == "mixed_float16" else precision


def _visible_gpus(share: Share) -> float:
    """Return the GPUs of `share`; 0 if the backend sees none, as one without CUDA."""
    return share.gpus if gpu_is_visible() else 0.0


Activations = Mapping[str, Sequence[NDArray[Any]] | CutFiles | Recomputed]
"""Cut → activations of all images: chunks (1 + views, n, …) float16 in their order, files, or computed in each step."""

ACTIVATIONS = "Frozen activations"
"""Name of the task that is reported to `Progress` before the trials."""

Engine = Callable[[StudyRun, list[TrialKey], StudyProgress], dict[TrialKey, str]]
"""Runs trials, stores each as it finishes, and returns the reasons of those that failed after all retries."""


def run_study(study: StudyRun, engine: Engine, progress: StudyProgress) -> Path:
    """Run the unfinished trials and pool the predictions. Return the path of `predictions.parquet`.

    Raises `TrialsFailed` with all failed trials, after the other trials are finished and the complete strategies are
    pooled; before any training `StudyMismatch` if the folder holds another study, `NotPossible` if a fold leaves
    nothing to fit the head of `robust` to.
    """
    with study.folder.lock():
        study.folder.start(study.plan)
        trials = study.plan.trials()
        finished = study.folder.finished(trials)
        todo = [key for key in trials if key not in finished]
        for key in todo:  # before hours of other strategies
            if study.data.views is not None and strategy_by_name(key.strategy).is_solved:
                robust_training_rows(study.data.views, key.fold, study.plan.profile.robust)
        costs = {key: relative_cost(study.plan.profile, key.strategy, study.plan.manifest.study_images) for key in todo}
        progress.begin(costs, len(trials) - len(todo))
        try:
            failures = engine(study, todo, progress) if todo else {}
        finally:
            progress.end()
        study.folder.check_held()
        predictions = _pool(study, failures)
        remove_unneeded(study.activations_folder)
        return predictions


def _pool(study: StudyRun, failures: Mapping[TrialKey, str]) -> Path:
    folds = study.plan.profile.folds
    asked = study.folder.record().strategies
    names = study.folder.complete(asked, folds) if failures else asked
    if failures and names:
        study.folder.set_strategies(names)
    predictions = study.folder.pool(TrialKey(name, fold) for name in names for fold in range(folds)) if names else None
    if failures or predictions is None:
        raise TrialsFailed(
            f"{len(failures)} of {len(study.plan.trials())} trials failed; the others are stored.",
            received="; ".join(f"{key}: {reason}" for key, reason in sorted(failures.items())),
            advice="Fix the cause and run the same command: only these trials are run again.",
        )
    return predictions


TrialInputs = Inputs | ViewFeatures
"""What a trial is trained on, or what the head of `robust` is solved on."""


def execute_trial(
    study: StudyRun,
    bench: Workbench,
    key: TrialKey,
    inputs: TrialInputs,
    share: Share,
    on_epoch: Callable[[Epoch], None],
    on_message: Callable[[str], None] = lambda _line: None,
    checkpoint_seconds: float | None = None,
) -> TrialRecord:
    """Run one trial, from its last checkpoint if it has one, and store it; the same on every engine.

    `checkpoint_seconds` replaces that of the profile. `on_message` gets a line if the GPU cannot hold the inputs.
    """
    profile, strategy, data = study.plan.profile, strategy_by_name(key.strategy), study.data
    rows: TrialData | RobustTrialData
    if isinstance(inputs, ViewFeatures):
        assert data.views is not None, "the features were computed of them"
        rows, epochs = robust_trial_data(data.views, inputs, key.fold, profile.robust), 1
    else:
        rows = TrialData(inputs, data.labels, data.rows_outside(key.fold), data.rows_of_fold(key.fold))
        epochs = profile.training.schedule(strategy.family).epochs_for(len(rows.train), profile.training.batch_size)
    folder = study.folder.running_folder(key)
    interval = profile.resources.checkpoint_seconds if checkpoint_seconds is None else checkpoint_seconds
    storage = storage_of(inputs)
    numerics = {"backend": keras_backend(), "precision": bench.precision, ACTIVATIONS_KEPT: storage}
    heartbeat = TrialHeartbeat(folder, key, epochs, share, interval, numerics)
    if (
        share.gpus
        and not isinstance(inputs, ViewFeatures)
        and (line := too_large_line(key.strategy, inputs, bench.placement))
    ):
        on_message(line)

    def keep(epoch: Epoch, position: Callable[[], Position]) -> None:
        heartbeat.epoch(epoch, position)
        on_epoch(epoch)

    seed, mps, used_before = trial_seed(profile.seed, key.fold), share.gpus > 0 and mps_is_running(), cache_use()
    with heartbeat:
        start = heartbeat.begin()
        if isinstance(rows, RobustTrialData):
            result = run_robust_trial(bench, profile.robust, rows, seed, lambda epoch: keep(epoch, no_position))
        else:
            result = run_trial(bench, strategy, rows, seed, keep, start)
    epochs, side = len(result.history), profile.model.input_size
    early = 0 if strategy.is_solved else profile.training.schedule(strategy.family).early_epochs(epochs, side)
    record = TrialRecord(
        strategy=key.strategy,
        fold=key.fold,
        identity=study.plan.trial_identity(key),
        cut=strategy.cut,
        trained_layers=tuple(result.network.trained_layers),
        images=TrialImages(train=len(rows.train), test=len(rows.test)),
        epochs=epochs,
        loss_fall=loss_fall(result.history, early),
        accuracy=float(np.mean(result.probabilities.argmax(1) == data.labels[rows.test])) if len(rows.test) else None,
        seconds=TrialSeconds(**result.seconds),
        seed=seed,
        backend=keras_backend(),
        node=heartbeat.state.node,
        cpus=share.cpus,
        gpus=share.gpus,
        devices=bench.placement.devices,
        precision="float32" if isinstance(rows, RobustTrialData) else bench.precision,
        deterministic=bench.placement.deterministic,
        mps=mps,
        cache=cache_use() - used_before,
        activations=storage,
        started=heartbeat.state.started,
        finished=utc_now(),
        versions=package_versions(),
        hardware=hardware(),
    )
    study.folder.write_trial(record, data, result)
    return study.folder.trial_record(key)


def storage_of(inputs: TrialInputs) -> Storage | None:
    """Return where the activations are that a trial is trained on, `None` if it is trained on images or features."""
    if isinstance(inputs, FrozenInputs):
        return "files" if inputs.in_files else "memory"
    return "recompute" if isinstance(inputs, RecomputedInputs) else None


def too_large_line(strategy: str, inputs: Inputs, placement: Placement) -> str | None:
    """Return a line if `inputs` are too large to stay in GPU memory, so that a thread gathers each batch."""
    size = sum(array.nbytes for array in inputs.arrays)
    if size <= placement.resident_bytes:
        return None
    what = "images" if isinstance(inputs, ImageInputs) else "frozen activations"
    return (
        f"{strategy}: {size / 2**30:.1f} GiB of {what} are more than the {placement.resident_bytes / 2**30:.1f} GiB of "
        "GPU memory that a trial keeps them in; a thread gathers batches on the host ahead of the step"
    )


def no_position() -> Position:
    """Raise `ValueError`: a trial without epochs is at no position between two of them."""
    raise ValueError("expected a trial with several epochs, received one that is solved at once")


def inputs_of(study: StudyRun, key: TrialKey, activations: Activations) -> TrialInputs:
    """Return images for scratch, and the activations at the strategy's cut otherwise."""
    cut = strategy_by_name(key.strategy).cut
    if cut is None:
        return ImageInputs(study.data.images, study.plan.profile.augmentation)
    chunks, profile = activations[cut], study.plan.profile
    if isinstance(chunks, Recomputed):
        images, side = study.data.images, profile.model.input_size
        return RecomputedInputs(images, view_transforms(len(images), side, profile.augmentation, profile.seed))
    if isinstance(chunks, CutFiles):
        return FrozenInputs(chunks.files, chunks.rows)
    if cut == VIEWS:
        features = np.concatenate([chunk[0] for chunk in chunks])
        return ViewFeatures(features.reshape(-1, len(study.plan.views), features.shape[1]))
    return FrozenInputs(chunks)

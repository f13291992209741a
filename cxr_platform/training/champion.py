"""The champion: a trial on all study images, with no test fold, as a Ray Train run.

It is trained like any other trial: for a fixed number of epochs, keeping the last weights. No image is left to test it
on; its accuracy is estimated by the out-of-fold results of the study.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr_platform.cluster import connection
from cxr_platform.config import Profile
from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.domain.study import NO_FOLD, StudyRecord, TrialKey, TrialRecord
from cxr_platform.errors import StudyError, StudyMismatch
from cxr_platform.models.weights import find_weights, load_backbone_weights
from cxr_platform.progress import NoProgress, Progress
from cxr_platform.storage.files import remove_leftovers, remove_unneeded, write_json
from cxr_platform.storage.lock import folder_lock
from cxr_platform.storage.paths import is_remote
from cxr_platform.training.activations.files import FOLDER as ACTIVATIONS_FOLDER
from cxr_platform.training.data import load_study_data, manifest_facts
from cxr_platform.training.devices import keras_backend
from cxr_platform.training.folder import HISTORY, WEIGHTS, StudyFolder
from cxr_platform.training.plan import StudyPlan, cuts_of, identity_differences
from cxr_platform.training.running_trial import last_position
from cxr_platform.training.study import StudyRun
from cxr_platform.validation import parse_json

if TYPE_CHECKING:
    from cxr_platform.manifest.store import Manifest

NO_PROGRESS = NoProgress()
RETRAIN = "Remove the folder and train the champion again."
IDENTITY = "identity.json"
"""In the folder of a running champion: what it is trained with, so that the same command can continue it."""


@dataclass(frozen=True)
class Champion:
    """A trained champion in `folder`, runs/NAME/champion/STRATEGY."""

    folder: Path
    record: TrialRecord

    @property
    def weights(self) -> Path:
        """Keras weights of the whole network (`Network.full`)."""
        return self.folder / WEIGHTS

    @property
    def history(self) -> Path:
        """Parquet table with one row per epoch."""
        return self.folder / HISTORY


def champion_profile(study: StudyRecord) -> Profile:
    """Return the profile of `study` with the precision of its trials, whose figures are stated for the champion.

    Raises `StudyMismatch` if the trials ran on another backend.
    """
    backend = study.identity.get("backend")
    if backend not in (None, keras_backend()):
        raise StudyMismatch(
            f"Expected the backend of the trials of study {study.name}, {backend}.",
            received=keras_backend(),
            advice=f"Train the champion with STACK={backend}.",
        )
    training = study.profile.training
    precision = study.identity.get("precision", training.precision)
    return replace(study.profile, training=replace(training, precision=precision))


def train_champion(
    study: Path,
    strategy: str,
    profile: Profile,
    manifest: "Manifest",
    *,
    imagenet_weights: Path | None = None,
    ray_address: str | None = None,
    progress: Progress = NO_PROGRESS,
) -> Champion:
    """Train `strategy` on all study images of `manifest`, or return the champion if it is trained already.

    `study` is the folder runs/NAME, `profile` its `champion_profile`; `imagenet_weights` is a published file, used
    instead of a download. `progress` is called from another thread. An interrupted training continues after its last
    checkpoint, which is written after every epoch.

    Raises `StudyMismatch` with the differences if the folder holds a champion of another configuration or manifest,
    `StorageError` if another process holds the folder or not all nodes can write it, `StudyError` if the worker keeps
    dying, `WeightsError` if the strategy needs ImageNet weights and there are none.
    """
    pretrained = strategy_by_name(strategy).pretrained
    plan = StudyPlan("champion", "grouped", (strategy,), profile, manifest_facts(manifest))
    folder = StudyFolder(study)

    def load() -> StudyRun:
        alpha = profile.model.alpha
        imagenet = load_backbone_weights(find_weights(alpha, imagenet_weights), alpha) if pretrained else None
        size, cache_gib = profile.model.input_size, profile.resources.cache_gib
        data = load_study_data(manifest, plan.protocol, profile.folds, size, plan.views, cache_gib)
        return StudyRun(plan, folder, data, imagenet, of_champion=True)

    return run_champion(plan, folder, load, ray_address, progress)


def run_champion(
    plan: StudyPlan,
    folder: StudyFolder,
    load: Callable[[], StudyRun],
    address: str | None = None,
    progress: Progress = NO_PROGRESS,
) -> Champion:
    """Train the one strategy of `plan`; `load` is called if there is something to train. See `train_champion`."""
    key = TrialKey(plan.strategies[0], NO_FOLD)
    with folder_lock(folder.champion_root, f"the champions of {folder.root}"):
        _begin(folder, key, plan.trial_identity(key))
        if not folder.is_finished(key):
            _train(load(), key, address, progress)
        remove_unneeded(folder.running_folder(key))
        remove_unneeded(folder.champion_root / ACTIVATIONS_FOLDER)
    return read_champion(folder.trial_folder(key))


def read_champion(folder: Path) -> Champion:
    """Return the champion in `folder`; raise `StudyError` if there is none or its record is damaged."""
    key = TrialKey(folder.name, NO_FOLD)
    try:
        return Champion(folder, StudyFolder(folder.parent.parent).trial_record(key))
    except (FileNotFoundError, NotADirectoryError):
        raise StudyError(
            f"Expected a trained champion in {folder}.",
            received="no trial.json",
            advice="Train it with `make champion`.",
        ) from None


def _begin(folder: StudyFolder, key: TrialKey, identity: Mapping[str, Any]) -> None:
    """Record `identity` in the running folder; raise `StudyMismatch` if what is there has another one."""
    running = folder.running_folder(key)
    if (folder.trial_folder(key) / "trial.json").exists():  # a damaged one is an error, not trained over
        _check_same(folder.trial_folder(key), folder.trial_record(key).identity, identity)
    elif (running / IDENTITY).exists():
        content = (running / IDENTITY).read_bytes()
        known = parse_json(content, str(running / IDENTITY), StudyError, RETRAIN)
        if not isinstance(known, dict):
            raise StudyError(f"Expected an object in {running / IDENTITY}.", received=repr(known), advice=RETRAIN)
        _check_same(running, known, identity)
    else:
        write_json(running / IDENTITY, identity)
    if not is_remote(folder.root):
        remove_leftovers(folder.trial_folder(key))


def _check_same(folder: Path, known: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    changes = identity_differences(known, identity)
    if changes:
        raise StudyMismatch(
            f"Expected the configuration and manifest with which the champion in {folder} was started.",
            received="; ".join(changes),
            advice="Remove that folder to train it again, or go back to what it was started with.",
        )


def _train(study: StudyRun, key: TrialKey, address: str | None, progress: Progress) -> None:
    from cxr_platform.training.activations.on_ray import compute_activations
    from cxr_platform.training.champion_ray import ChampionJob, champion_resources, fit
    from cxr_platform.training.engine_ray import trial_resources

    position = last_position(study.folder.running_folder(key))
    if position is not None:
        progress.message(f"continues after epoch {position.history[-1].epoch}")
    with connection(address):
        profile = study.plan.profile
        share = trial_resources(profile, trials=1)
        activations = compute_activations(study, cuts_of([key.strategy]), share, progress)
        resources = profile.resources if share.gpus else replace(profile.resources, gpu=0.0)
        reserved = champion_resources(resources, profile.training.batch_size)
        fit(ChampionJob(study, key, activations, reserved), progress)

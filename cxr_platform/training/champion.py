"""The champion: one strategy trained on all study images, without a fold held back, as a Ray Train run.

The recipe is that of a trial: a fixed number of epochs, the last weights. There is no image left to measure it on; the
figures that speak for it are the study's out-of-fold ones.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr_platform.cluster import connection
from cxr_platform.config import Profile
from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.models.initial_weights import BackboneWeights
from cxr_platform.models.weights import find_weights, load_backbone_weights
from cxr_platform.training.champion_folder import ChampionFolder, ChampionRun, read_champion
from cxr_platform.training.checkpoint import epoch_of
from cxr_platform.training.data import load_study_data, manifest_facts
from cxr_platform.training.folder import StudyFolder
from cxr_platform.training.plan import StudyPlan, cuts_of
from cxr_platform.training.progress import Progress
from cxr_platform.training.study import StudyRun
from cxr_platform.training.trial import Epoch

if TYPE_CHECKING:
    from cxr_platform.manifest.store import Manifest

__all__ = ["ChampionRequest", "ChampionRun", "read_champion", "train_champion"]


def _ignore(_: object) -> None:
    pass


@dataclass(frozen=True)
class ChampionRequest:
    """What to train and where: `folder` is `runs/NAME/champion`, `profile` that of the study.

    `seed` takes the place of the profile's. `imagenet_weights` is a published file that is at hand. `on_epoch` is
    called in this process, from another thread, as each epoch ends; `on_note` with lines for the reader.
    """

    folder: Path
    strategy: str
    profile: Profile
    manifest: "Manifest"
    seed: int | None = None
    imagenet_weights: Path | None = None
    ray_address: str | None = None
    on_epoch: Callable[[Epoch], None] = _ignore
    on_note: Callable[[str], None] = _ignore


def train_champion(request: ChampionRequest) -> Path:
    """Train what `request` asks for and return the finished folder, `request.folder / request.strategy`.

    The same request again returns what is finished, and continues what was interrupted after its last whole epoch.
    Raises `StudyMismatch` with the differences when the folder holds another request's run, `StudyError` when another
    process holds it or the worker keeps dying, `WeightsError` without the ImageNet weights that a strategy needs,
    `StorageError` when the folder cannot be written, or not by all nodes.
    """
    strategy_by_name(request.strategy)
    seed = request.profile.seed if request.seed is None else request.seed
    profile = replace(request.profile, seed=seed)
    plan = StudyPlan("champion", "grouped", (request.strategy,), profile, manifest_facts(request.manifest))

    def study() -> StudyRun:
        imagenet = _imagenet(plan, request.imagenet_weights)
        data = load_study_data(request.manifest, plan.protocol, profile.folds, profile.model.input_size)
        return StudyRun(plan, StudyFolder(request.folder), data, imagenet)

    return run_champion(plan, request.folder, study, request.ray_address, request.on_epoch, request.on_note)


def run_champion(
    plan: StudyPlan,
    root: Path,
    study: Callable[[], StudyRun],
    address: str | None = None,
    on_epoch: Callable[[Epoch], None] = _ignore,
    on_note: Callable[[str], None] = _ignore,
) -> Path:
    """As `train_champion`, for a plan of one strategy; `study` loads its images, when there is something to train."""
    folder = ChampionFolder(root, plan.strategies[0])
    with StudyFolder(root).lock():
        start = folder.begin(champion_identity(plan))
        if not folder.is_finished():
            if start is not None:
                on_note(f"continues after epoch {epoch_of(start)}")
            _train(study(), folder, start, address, on_epoch, on_note)
        folder.clean_up()
    return folder.final


def champion_identity(plan: StudyPlan) -> dict[str, Any]:
    """What must be the same for a run to be continued: the strategy, and what a study's identity holds but folds."""
    settings = {key: value for key, value in plan.identity().items() if key not in ("protocol", "folds")}
    identity: dict[str, Any] = json.loads(json.dumps({"strategy": plan.strategies[0], **settings}))
    return identity


def _train(
    study: StudyRun,
    folder: ChampionFolder,
    start: Path | None,
    address: str | None,
    on_epoch: Callable[[Epoch], None],
    on_note: Callable[[str], None],
) -> None:
    from cxr_platform.training.activations_ray import compute_activations
    from cxr_platform.training.champion_ray import champion_resources, fit
    from cxr_platform.training.champion_worker import Job
    from cxr_platform.training.engine_ray import trial_resources

    with connection(address):
        share = trial_resources(study.plan.profile.resources, trials=1)
        activations = compute_activations(study, cuts_of(study.plan.strategies), *share, _Notes(on_note))
        job = Job(study, folder, start, activations, *champion_resources(study.plan.profile.resources))
        fit(job, on_epoch, on_note)


def _imagenet(plan: StudyPlan, named: Path | None) -> BackboneWeights | None:
    if not any(strategy_by_name(name).pretrained for name in plan.strategies):
        return None
    alpha = plan.profile.model.alpha
    return load_backbone_weights(find_weights(alpha, named), alpha)


class _Notes(Progress):
    """Hands what the workers of the activations tell to a function."""

    def __init__(self, on_note: Callable[[str], None]) -> None:
        super().__init__()
        self._on_note = on_note

    def note(self, text: str) -> None:
        self._on_note(text)

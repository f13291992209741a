"""Memory, disk and volume that a study needs on a cluster, before anything is computed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cxr_platform.config import ModelConfig, Profile
from cxr_platform.domain.strategies import VIEWS, strategy_by_name
from cxr_platform.models.mobilenet import build_network
from cxr_platform.storage.node_cache import NodeCache, cache_folder, disk_of, free_bytes
from cxr_platform.storage.paths import is_remote
from cxr_platform.training.activations.files import FOLDER, ActivationFiles
from cxr_platform.training.activations.storage import StorageNeed, activation_shapes
from cxr_platform.training.image_files import ImageFile
from cxr_platform.training.plan import cuts_of
from cxr_platform.training.study import StudyRun

GIB = 2.0**30
PROCESS_GIB = 3.0
"""Largest memory of a process of a study with images and activations in files: `cxr benchmark archive` checks it."""

OBJECT_STORE_SHARE = 0.3
"""Share of a node's memory that Ray takes for its object store."""

COPIES = 4
"""Weights of a trial that are stored at a time: the result, and a checkpoint with the two moments of Adam."""


@dataclass(frozen=True)
class StudyNeed:
    """GiB that a study with activations in files needs: of its storage, and of a node that runs some trials at a time.

    `manifest` is not compressed, and original images are not counted. `cache` holds the images and the files of
    activations that trials read at a time.
    """

    activations: float
    manifest: float
    trials: float
    cache: float
    memory: float

    @property
    def volume(self) -> float:
        """GiB of the study's storage."""
        return self.activations + self.manifest + self.trials


def study_need(profile: Profile, strategies: Sequence[str], images: int, trials_per_node: float) -> StudyNeed:
    """Return what `strategies` on so many `images` need; the most that a trial stores is that of scratch."""
    cuts = tuple(cut for cut in cuts_of(strategies) if cut != VIEWS)
    need = None
    if cuts:
        shapes, views = activation_shapes(cuts, profile.model), 1 + profile.augmentation.views
        need = StorageNeed.of(ActivationFiles(Path(FOLDER), shapes, views, images, profile.seed, NodeCache()))
    at_once = 0 if need is None else need.at_once
    return StudyNeed(
        activations=0.0 if need is None else need.total / GIB,
        manifest=images * profile.intake.decoding.image_size**2 / GIB,
        trials=len(strategies) * profile.folds * trial_bytes(profile.model) / GIB,
        cache=(images * profile.model.input_size**2 + trials_per_node * at_once) / GIB,
        memory=trials_per_node * PROCESS_GIB / (1 - OBJECT_STORE_SHARE),
    )


@cache
def trial_bytes(model: ModelConfig) -> int:
    """Return the most that one trial stores at a time."""
    return COPIES * 4 * int(build_network(strategy_by_name("scratch"), model).full.count_params())


def room_on_disk(study: StudyRun, trials: int) -> tuple[float | None, float | None]:
    """Return `Room.disk`, and `Room.cache` of each of so many `trials` that a node runs at a time.

    The former leaves room for the trials that are to be stored, and for the file of images if it is on the same disk.
    """
    folder, images, profile = study.folder.root, study.data.images, study.plan.profile
    if is_remote(folder):
        beside = images.nbytes if isinstance(images, ImageFile) else 0
        return None, max(0.0, NodeCache(profile.resources.cache_gib).limit - beside) / max(1, trials)
    planned = study.plan.trials()
    left = 1 if study.of_champion else len(planned) - len(study.folder.finished(planned))
    others = left * trial_bytes(profile.model)
    if isinstance(images, ImageFile) and not images.is_made() and disk_of(cache_folder()) == disk_of(folder):
        others += images.nbytes
    return max(0.0, free_bytes(folder) - others), None

"""What has to be computed of the frozen activations of a study, in parts, and where each part goes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_platform.domain.strategies import VIEWS
from cxr_platform.models.frozen import chunks, view_transforms
from cxr_platform.progress import Progress
from cxr_platform.training.activation_files import ActivationFiles, ChunkFiles, Recomputed
from cxr_platform.training.activation_storage import Room, choose_storage, planned_files
from cxr_platform.training.image_files import ImageFile
from cxr_platform.training.study import StudyRun


@dataclass(frozen=True, eq=False)
class FrozenTask:
    """Activations at `cuts` to compute: of `images` (n, S, S) under `transforms` (views, n, 8)."""

    cuts: tuple[str, ...]
    images: NDArray[Any] | ImageFile
    transforms: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Part:
    """The images `rows` (n,) of a task; their activations are file `number` of `files`, or stay in memory."""

    task: FrozenTask
    rows: NDArray[Any]
    number: int = 0
    files: ActivationFiles | None = None


@dataclass(frozen=True)
class ActivationPlan:
    """The parts to compute, and cut → activations that are not in memory."""

    parts: Sequence[Part]
    elsewhere: Mapping[str, ChunkFiles | Recomputed] = field(default_factory=dict)

    @property
    def images(self) -> int:
        """Number of images of all parts."""
        return sum(len(part.rows) for part in self.parts)

    def activations(self, computed: Sequence[Sequence[Any]]) -> dict[str, list[Any] | ChunkFiles | Recomputed]:
        """Return cut → activations, of `computed`: for each part in memory a chunk, or a reference to it, by cut."""
        joined: dict[str, list[Any] | ChunkFiles | Recomputed] = dict(self.elsewhere)
        for part, of_cuts in zip(self.parts, computed, strict=True):
            for cut, chunk in zip(part.task.cuts if part.files is None else (), of_cuts, strict=True):
                kept = joined.setdefault(cut, [])
                assert isinstance(kept, list), "a cut is in memory or elsewhere"
                kept.append(chunk)
        return joined


def plan_activations(
    study: StudyRun, cuts: Sequence[str], room: Room, progress: Progress, gpus: float
) -> ActivationPlan:
    """Return what to compute for `cuts`: study images with augmented views, and for `VIEWS` the views of `robust`.

    `choose_storage` decides where the former are kept, unless earlier trials of the study have decided it; it raises
    `ConfigError` if there is no room. Of files only those are computed that an earlier run has not written. The views
    of `robust` have one cut of few values: they stay in memory.
    """
    parts: list[Part] = []
    elsewhere: dict[str, ChunkFiles | Recomputed] = {}
    if of_images := tuple(cut for cut in cuts if cut != VIEWS):
        files, profile = planned_files(study, of_images), study.plan.profile
        setting = profile.resources.activations
        if setting == "auto":
            setting = study.folder.known_activations() or "auto"
        storage = choose_storage(files, room, setting, progress, gpus)
        study.folder.set_activations(storage)
        images, side = study.data.images, profile.model.input_size
        task = FrozenTask(of_images, images, view_transforms(len(images), side, profile.augmentation, profile.seed))
        if storage == "memory":
            parts += _in_memory(task)
        elif storage == "files":
            parts += [Part(task, files.parts[number], number, files) for number in files.missing()]
            elsewhere |= {cut: files.chunks(cut) for cut in of_images}
        else:
            elsewhere |= dict.fromkeys(of_images, Recomputed())
    if VIEWS in cuts:
        parts += _in_memory(_views_task(study))
    return ActivationPlan(parts, elsewhere)


def _in_memory(task: FrozenTask) -> list[Part]:
    rows = np.arange(len(task.images))
    return [Part(task, rows[part]) for part in chunks(len(rows))]


def _views_task(study: StudyRun) -> FrozenTask:
    profile = study.plan.profile
    assert study.data.views is not None, "loaded for the plan's views"
    size = profile.model.input_size
    images = study.data.views.images.reshape(-1, size, size)
    clean = replace(profile.augmentation, views=0)
    return FrozenTask((VIEWS,), images, view_transforms(len(images), size, clean, profile.seed))

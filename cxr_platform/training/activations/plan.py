"""What has to be computed of the frozen activations of a study, in parts, and where each part goes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_platform.domain.strategies import VIEWS
from cxr_platform.domain.study import ActivationRates
from cxr_platform.models.frozen import chunks, view_transforms
from cxr_platform.progress import Progress
from cxr_platform.training.activations.files import ActivationFiles, ChunkFiles, Recomputed
from cxr_platform.training.activations.rates import (
    RateProbe,
    StorageSeconds,
    deepest,
    probe_images,
    reads_of_images,
    storage_seconds,
)
from cxr_platform.training.activations.storage import Room, StorageNeed, choose_storage, planned_files
from cxr_platform.training.image_files import ImageFile
from cxr_platform.training.study import StudyRun

Measure = Callable[[RateProbe], ActivationRates]
"""Measures rates where a trial would run."""


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
    study: StudyRun, cuts: Sequence[str], room: Room, progress: Progress, measure: Measure | None
) -> ActivationPlan:
    """Return what to compute for `cuts`: study images with augmented views, and for `VIEWS` the views of `robust`.

    `choose_storage` decides where the former are kept, unless earlier trials of the study have decided it; it raises
    `ConfigError` if there is no room. `measure` is given where trials have a GPU. Of files only those are computed that
    an earlier run has not written. The views of `robust` have one cut of few values: they stay in memory.
    """
    parts: list[Part] = []
    elsewhere: dict[str, ChunkFiles | Recomputed] = {}
    if of_images := tuple(cut for cut in cuts if cut != VIEWS):
        files, profile = planned_files(study, of_images), study.plan.profile
        setting = profile.resources.activations
        if setting == "auto" and (known := study.folder.known_record()):
            setting = known.activations or "auto"
        images, side = study.data.images, profile.model.input_size
        task = FrozenTask(of_images, images, view_transforms(len(images), side, profile.augmentation, profile.seed))

        def compare(need: StorageNeed, missing: float) -> StorageSeconds:
            assert measure is not None, "asked for only then"
            cached = room.cache is not None and need.largest <= room.cache
            probe = _rate_probe(study, task, None if cached else files.folder)
            return storage_seconds(need, missing, reads_of_images(study.plan, of_images), measure(probe))

        storage, rates = choose_storage(files, room, setting, progress, compare if measure else None)
        study.folder.set_activations(storage, rates)
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


def _rate_probe(study: StudyRun, task: FrozenTask, folder: Path | None) -> RateProbe:
    assert study.imagenet is not None, "activations are those of ImageNet weights"
    images, transforms = probe_images(task.images, task.transforms)
    return RateProbe(deepest(task.cuts), study.plan.profile.model, study.imagenet, images, transforms, folder)


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

"""What has to be computed of the frozen activations of a study, in parts, and where each part goes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from cxr_platform.config import Storage
from cxr_platform.domain.strategies import VIEWS
from cxr_platform.domain.study import ActivationRates
from cxr_platform.models.frozen import chunks, view_transforms
from cxr_platform.progress import Progress
from cxr_platform.training.activations.files import ActivationFiles, CutFiles, Recomputed
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
    elsewhere: Mapping[str, CutFiles | Recomputed] = field(default_factory=dict)

    @property
    def images(self) -> int:
        """Number of images of all parts."""
        return sum(len(part.rows) for part in self.parts)

    def activations(self, computed: Sequence[Sequence[Any]]) -> dict[str, list[Any] | CutFiles | Recomputed]:
        """Return cut → activations, of `computed`: for each part in memory a chunk, or a reference to it, by cut."""
        joined: dict[str, list[Any] | CutFiles | Recomputed] = dict(self.elsewhere)
        for part, of_cuts in zip(self.parts, computed, strict=True):
            for cut, chunk in zip(part.task.cuts if part.files is None else (), of_cuts, strict=True):
                kept = joined.setdefault(cut, [])
                assert isinstance(kept, list), "a cut is in memory or elsewhere"
                kept.append(chunk)
        return joined


def choose_storages(
    study: StudyRun, cuts: Sequence[str], room: Room, progress: Progress, measure: Measure | None
) -> dict[str, Storage]:
    """Return cut → where its activations are kept, as `choose_storage` decides, and add that to `study.json`.

    Cuts of which trials have begun stay where they were if there is room; the others are decided together. A champion
    decides for itself. `measure` is given where trials have a GPU. The views of `robust` have one cut of few values:
    they stay in memory, and are left out. Raises `ConfigError` if there is no room.
    """
    cuts = tuple(cut for cut in cuts if cut != VIEWS)
    if not cuts:
        return {}
    files, setting = planned_files(study, cuts), study.plan.profile.resources.activations
    before = {} if study.of_champion else study.folder.known_activations()
    chosen: dict[str, Storage] = {}
    rates: ActivationRates | None = None

    def compare(need: StorageNeed, missing: float) -> StorageSeconds:
        assert measure is not None, "asked for only then"
        cached = room.cache is not None and need.largest <= room.cache
        task = _image_task(study, tuple(need.per_view))
        probe = _rate_probe(study, task, None if cached else files.folder)
        return storage_seconds(need, missing, reads_of_images(study.plan, task.cuts), measure(probe))

    for known in (*get_args(Storage), None):
        shapes = {cut: shape for cut, shape in files.shapes.items() if before.get(cut) == known}
        if shapes:
            same = replace(files, shapes=shapes)
            choice = choose_storage(same, room, setting, progress, compare if measure else None, known)
            chosen |= dict.fromkeys(shapes, choice.storage)
            room, rates = choice.left, choice.rates or rates
    if not study.of_champion:
        study.folder.set_activations(chosen, rates)
    return chosen


def plan_activations(study: StudyRun, cuts: Sequence[str], chosen: Mapping[str, Storage]) -> ActivationPlan:
    """Return what to compute for `cuts`: study images with augmented views, and for `VIEWS` the views of `robust`.

    The former are kept where `choose_storages` has `chosen`. Of files only those are computed that an earlier run has
    not written.
    """
    in_memory, in_files = (tuple(cut for cut in cuts if chosen.get(cut) == kept) for kept in ("memory", "files"))
    parts = _in_memory(_image_task(study, in_memory)) if in_memory else []
    elsewhere: dict[str, CutFiles | Recomputed] = {cut: Recomputed() for cut in cuts if chosen.get(cut) == "recompute"}
    if in_files:
        files, task = planned_files(study, in_files), _image_task(study, in_files)
        parts += [Part(task, files.rows_of_files[number], number, files) for number in files.missing()]
        elsewhere |= {cut: files.of_cut(cut) for cut in in_files}
    if VIEWS in cuts:
        parts += _in_memory(_views_task(study))
    return ActivationPlan(parts, elsewhere)


def _image_task(study: StudyRun, cuts: tuple[str, ...]) -> FrozenTask:
    images, profile = study.data.images, study.plan.profile
    transforms = view_transforms(len(images), profile.model.input_size, profile.augmentation, profile.seed)
    return FrozenTask(cuts, images, transforms)


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

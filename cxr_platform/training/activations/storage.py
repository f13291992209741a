"""Where the frozen activations of a study are kept: in memory, in files of its storage, or nowhere.

`StorageNeed` is known before anything is computed; `choose_storage` decides with what the machines have.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from typing_extensions import Self

from cxr_platform.config import ModelConfig, Storage
from cxr_platform.domain.study import ActivationRates
from cxr_platform.errors import ConfigError
from cxr_platform.models.mobilenet import build_backbone, cut_tensor
from cxr_platform.progress import Progress
from cxr_platform.storage.node_cache import NodeCache
from cxr_platform.training.activations.files import ActivationFiles, activation_key
from cxr_platform.training.inputs import FILES_AT_ONCE
from cxr_platform.training.study import StudyRun

if TYPE_CHECKING:
    from cxr_platform.training.activations.rates import StorageSeconds

MEMORY_SHARE = 0.6
"""Share of a node's object store, or of the free memory, that activations may take."""


@dataclass(frozen=True)
class StorageNeed:
    """Bytes of activations: `per_view`, cut → bytes of one view of one image; `views` with the one that is not changed.

    `images_per_file` is the number of images of a chunk.
    """

    images: int
    views: int
    per_view: Mapping[str, int]
    images_per_file: int

    @classmethod
    def of(cls, files: ActivationFiles) -> Self:
        """Return what `files` need, in files or in memory."""
        item = np.dtype("float16").itemsize
        per_view = {cut: math.prod(shape) * item for cut, shape in files.shapes.items()}
        return cls(files.count, files.views, per_view, max(map(len, files.parts)))

    @property
    def total(self) -> int:
        """Bytes of all cuts."""
        return sum(map(self.of_cut, self.per_view))

    @property
    def largest(self) -> int:
        """Bytes of the largest cut, which one trial reads."""
        return max(map(self.of_cut, self.per_view))

    @property
    def at_once(self) -> int:
        """Bytes of the files of the largest cut among which a trial draws its batches."""
        files = min(FILES_AT_ONCE + 1, math.ceil(self.images / self.images_per_file))
        return files * min(self.images, self.images_per_file) * self.views * max(self.per_view.values())

    def of_cut(self, cut: str) -> int:
        """Return the bytes of one cut."""
        return self.images * self.views * self.per_view[cut]

    def __str__(self) -> str:
        cuts = ", ".join(f"{cut} {gib(self.of_cut(cut))}" for cut in self.per_view)
        return f"{gib(self.total)} for {self.images:,} images × {self.views} views ({cuts})"


@dataclass(frozen=True)
class Room:
    """Bytes that activations may take: in memory (`total` of all cuts, `largest` cut on each node), and on the disk of
    the storage, `None` where it is not known, as of an object store; `cache` is what a trial may take of a node's
    files.
    """

    total: float
    largest: float
    disk: float | None
    cache: float | None = None


def activation_shapes(cuts: Sequence[str], model: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return cut → shape of the activations of one image."""
    backbone = build_backbone(model)
    pooled = backbone.output.shape[-1:]
    return {cut: tuple(pooled if cut == "features" else cut_tensor(backbone, cut).shape[1:]) for cut in cuts}


def planned_files(study: StudyRun, cuts: Sequence[str]) -> ActivationFiles:
    """Return the files in which the activations of `study` at `cuts` are kept, written or not."""
    assert study.imagenet is not None, "activations are those of ImageNet weights"
    profile = study.plan.profile
    return ActivationFiles(
        folder=study.activations_folder / activation_key(study.plan, study.imagenet),
        shapes=activation_shapes(cuts, profile.model),
        views=1 + profile.augmentation.views,
        count=len(study.data.images),
        seed=profile.seed,
        cache=NodeCache(profile.resources.cache_gib),
    )


def choose_storage(
    files: ActivationFiles,
    room: Room,
    setting: Literal["auto"] | Storage,
    progress: Progress,
    compare: Callable[[StorageNeed, float], "StorageSeconds"] | None = None,
) -> tuple[Storage, ActivationRates | None]:
    """Return, and tell `progress`, where activations are kept: as `setting` says, and with "auto" as follows.

    In memory if they fit. Else in files or computed in every step, whichever `compare` finds faster where both are
    possible; it gets the need and the share that is not in files yet, and measures. Without it, as without a GPU,
    computing again is not considered. The rates are returned if they decided. Raises `ConfigError` if activations fit
    nowhere, with what would fit.
    """
    need = StorageNeed.of(files)
    missing = sum(len(files.parts[number]) for number in files.missing()) / files.count
    on_disk = room.disk is None or missing * need.total <= room.disk
    fits: dict[Storage, bool] = {
        "memory": need.total <= room.total and need.largest <= room.largest,
        "files": on_disk and (room.cache is None or need.at_once <= room.cache),
        "recompute": setting == "recompute" or compare is not None,
    }
    possible = [storage for storage in fits if fits[storage] and setting in ("auto", storage)]
    if possible:
        storage, rates, reason = possible[0], None, ""
        if possible == ["files", "recompute"] and compare is not None:
            compared = compare(need, missing)
            storage = "files" if compared.files <= compared.recompute else "recompute"
            rates, reason = compared.rates, f". {compared}"
        places = {"files": f"in files in {files.folder}", "recompute": "computed in every step"}
        progress.message(f"Frozen activations: {need} {places.get(storage, 'in memory')}{reason}")
        return storage, rates
    most = max(room.total, room.disk or 0.0)
    views = int(need.views * most / need.total) - 1
    fewer = f", augmentation.views = {views}" if views >= 0 else ""
    where = "memory or files" if setting == "auto" else setting
    raise ConfigError(
        f"Expected room for the frozen activations, {need}, in {where}.",
        received=f"{gib(room.total)} of memory ({gib(room.largest)} for one cut on each node), "
        + ("an object store" if room.disk is None else f"{gib(room.disk)} on the disk of the storage")
        + (
            ""
            if room.cache is None
            else f", {gib(room.cache)} for the files of a node, of which {gib(need.at_once)} are in use at a time"
        ),
        advice=f"Give fewer --strategies at a time{fewer}, a smaller --input-size, a --storage with more room, or set "
        'resources.activations = "recompute", which is slow without a GPU.',
    )


def gib(size: float) -> str:
    """Return bytes as text in GiB, with two significant digits below 10."""
    return f"{size / 2**30:.3g} GiB"

"""Where the frozen activations of a study are kept: in memory, in files of its storage, or nowhere.

`StorageNeed` is known before anything is computed; `choose_storage` decides with what the machines have.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
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

PLACES: Mapping[Storage, str] = {"memory": "in memory", "files": "in files", "recompute": "computed in every step"}


@dataclass(frozen=True)
class StorageNeed:
    """Bytes of activations: `per_view`, cut → bytes of one view of one image; `views` with the one that is not changed.

    `images_per_file` is the largest number of images of a file.
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
        return cls(files.count, files.views, per_view, max(map(len, files.rows_of_files)))

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


@dataclass(frozen=True)
class Choice:
    """Where activations are kept, the rates if they decided, and the room that is left for those of other cuts."""

    storage: Storage
    rates: ActivationRates | None
    left: Room


@dataclass(frozen=True)
class Limit:
    """The bytes that `storage` needs in one `place` and has there; `whole`, what it would if no file were written yet.

    `remedy` gives more room.
    """

    storage: Storage
    place: str
    need: float
    room: float
    whole: float
    remedy: str

    @property
    def is_kept(self) -> bool:
        """Return True if there is room."""
        return self.need <= self.room


@cache
def activation_shapes(cuts: tuple[str, ...], model: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return cut → shape of the activations of one image."""
    backbone = build_backbone(model)
    pooled = backbone.output.shape[-1:]
    return {cut: tuple(pooled if cut == "features" else cut_tensor(backbone, cut).shape[1:]) for cut in cuts}


def planned_files(study: StudyRun, cuts: tuple[str, ...]) -> ActivationFiles:
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
    before: Storage | None = None,
) -> Choice:
    """Return, and tell `progress`, where activations are kept: as `setting` says, and with "auto" as follows.

    Where they were `before`, for trials that have begun, and else in memory if they fit; else in files or computed in
    every step, whichever `compare` finds faster where both are possible; it gets the need and the share that is not in
    files yet, and measures. Without it, as without a GPU, computing again is not considered. Raises `ConfigError` if
    activations fit nowhere, with what would fit.
    """
    need = StorageNeed.of(files)
    missing = sum(len(files.rows_of_files[number]) for number in files.missing()) / files.count
    limits = _limits(need, missing, room)
    fits: dict[Storage, bool] = {
        "memory": all(limit.is_kept for limit in limits if limit.storage == "memory"),
        "files": all(limit.is_kept for limit in limits if limit.storage == "files"),
        "recompute": setting == "recompute" or compare is not None,
    }
    possible = [storage for storage in fits if fits[storage] and setting in ("auto", storage)]
    if not possible:
        raise _no_room(need, [limit for limit in limits if setting in ("auto", limit.storage)], setting, fits)
    storage, rates, reason = possible[0], None, ""
    if before in possible:
        storage = before
    elif possible == ["files", "recompute"] and compare is not None:
        compared = compare(need, missing)
        storage = "files" if compared.files <= compared.recompute else "recompute"
        rates, reason = compared.rates, f". {compared}"
    if before not in (None, storage):
        reason += f". They were {PLACES[before]} before: trials that have begun start from their first epoch"
    folder = f" {files.folder}" if storage == "files" else ""
    progress.message(f"Frozen activations: {need} {PLACES[storage]}{folder}{reason}")
    if storage == "memory":
        room = replace(room, total=room.total - need.total)
    elif storage == "files" and room.disk is not None:
        room = replace(room, disk=room.disk - missing * need.total)
    return Choice(storage, rates, room)


def _limits(need: StorageNeed, missing: float, room: Room) -> list[Limit]:
    """Return the limits of `room` that are known; of files the share `missing` is not written yet."""
    of_files = missing * need.total
    limits = [
        Limit("memory", "of memory", need.total, room.total, need.total, "more memory"),
        Limit("memory", "of memory for one cut", need.largest, room.largest, need.largest, "more memory"),
    ]
    if room.disk is not None:
        place = "on the disk of the storage beside trials and images"
        limits.append(Limit("files", place, of_files, room.disk, need.total, "a --storage with more room"))
    if room.cache is not None:
        remedy = "a larger resources.cache_gib or CXR_CACHE_GIB"
        place = "of a trial's part of a node's cache"
        limits.append(Limit("files", place, need.at_once, room.cache, need.at_once, remedy))
    return limits


def _no_room(
    need: StorageNeed, limits: Sequence[Limit], setting: Literal["auto"] | Storage, fits: Mapping[Storage, bool]
) -> ConfigError:
    """Return the error for `limits`, those of the storages that `setting` allows, of which each has one that fails."""
    failing = [limit for limit in limits if not limit.is_kept]
    options = ["fewer --strategies at a time"] if len(need.per_view) > 1 else []
    options += dict.fromkeys(limit.remedy for limit in failing)
    views = max(
        int(min(need.views * limit.room / limit.whole for limit in limits if limit.storage == storage)) - 1
        for storage in {limit.storage for limit in limits}
    )
    fewer = f"augmentation.views = {views} or " if 0 <= views < need.views - 1 else ""
    options.append(f"in a study of another --name {fewer}a smaller --input-size")
    others = [f'"{storage}"' for storage in ("memory", "files") if setting != "auto" and fits[storage]]
    settings = " or ".join([*others, '"recompute", which is slow without a GPU'])
    return ConfigError(
        f"Expected room for the frozen activations, {need}, in {'memory or files' if setting == 'auto' else setting}.",
        received="; ".join(f"{gib(limit.room)} {limit.place}, where {gib(limit.need)} are needed" for limit in failing),
        advice=f"Give {', '.join(options)}, or set resources.activations = {settings}.",
    )


def gib(size: float) -> str:
    """Return bytes as text in GiB, with three significant digits below 1,000."""
    number = size / 2**30
    return f"{number:.3g} GiB" if number < 999.5 else f"{number:,.0f} GiB"

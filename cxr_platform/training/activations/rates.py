"""How long a study takes with its activations in files and with computing them in every step, from measured rates.

Memory is not compared: what fits there is computed once and costs nothing to read.
"""

import os
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_platform.config import ModelConfig
from cxr_platform.domain.strategies import EVERY_STRATEGY, strategy_by_name
from cxr_platform.domain.study import ActivationRates
from cxr_platform.models.frozen import BATCH, FrozenBackbone
from cxr_platform.models.initial_weights import BackboneWeights
from cxr_platform.storage.files import make_folder, read_errors, remove, write_atomically, write_errors
from cxr_platform.storage.node_cache import cache_folder
from cxr_platform.storage.paths import is_remote
from cxr_platform.training.activations.storage import StorageNeed
from cxr_platform.training.plan import StudyPlan

PROBE_IMAGES, PROBE_BYTES = 8 * BATCH, 32 * 2**20


@dataclass(frozen=True)
class RateProbe:
    """What a process needs to measure rates: images (n, S, S) and transforms (n, 8) of up to `PROBE_IMAGES` images.

    `cut` is the deepest one. `folder` is where files of activations are read, `None` for the cache of the node.
    """

    cut: str
    model: ModelConfig
    imagenet: BackboneWeights
    images: NDArray[Any]
    transforms: NDArray[Any]
    folder: Path | None

    def rates(self, gpus: float = 1.0) -> ActivationRates:
        """Return the rates of this process, or of a node with so many `gpus`; raise `StorageError` for the folder."""
        backbone = FrozenBackbone((self.cut,), self.model, self.imagenet)
        backbone.activations(self.images[:BATCH], self.transforms[:BATCH])  # compiles
        began = time.perf_counter()
        backbone.activations(self.images, self.transforms)
        seconds = time.perf_counter() - began
        read = read_rate(cache_folder() if self.folder is None else self.folder)
        return ActivationRates(images_per_second=gpus * len(self.images) / seconds, bytes_per_second=read)


def read_rate(folder: Path) -> float:
    """Return the bytes per second at which a new file of `PROBE_BYTES` in `folder` is read, not from this memory."""
    probe = folder / f".probe-{uuid.uuid4().hex}"
    with write_errors(probe):
        make_folder(folder)
    try:
        write_atomically(probe, os.urandom(PROBE_BYTES))
        with read_errors(probe):
            if not is_remote(probe):
                _forget(probe)
            began = time.perf_counter()
            probe.read_bytes()
        return PROBE_BYTES / (time.perf_counter() - began)
    finally:
        remove(probe)


def _forget(file: Path) -> None:
    """Let the operating system drop `file`, which is on the disk, from memory."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def deepest(cuts: Sequence[str]) -> str:
    """Return that of `cuts` which has all others below it."""
    above = {strategy.cut: strategy.trainable_blocks or 0 for strategy in EVERY_STRATEGY}
    return min(cuts, key=lambda cut: above[cut])


def reads_of_images(plan: StudyPlan, cuts: Sequence[str]) -> dict[str, float]:
    """Return cut → how often the trials of `plan` read an image on average: to train on it, and once to test on it."""
    profile, reads = plan.profile, dict.fromkeys(cuts, 0.0)
    trained = (profile.folds - 1) / profile.folds
    for key in plan.trials():
        strategy = strategy_by_name(key.strategy)
        if strategy.cut in reads:
            schedule = profile.training.schedule(strategy.family)
            epochs = schedule.epochs_for(plan.manifest.study_images * trained, profile.training.batch_size)
            reads[strategy.cut] += epochs * trained + (1 - trained)
    return reads


@dataclass(frozen=True)
class StorageSeconds:
    """Seconds of one node that do all trials, beyond their training: activations in `files`, or to `recompute` them.

    Reading in files is counted as if no step went on meanwhile, and computing again as if every cut were the deepest.
    """

    rates: ActivationRates
    files: float
    recompute: float

    def __str__(self) -> str:
        rates = self.rates
        return (
            f"Measured: {rates.images_per_second:,.0f} images/s through the frozen layers and "
            f"{rates.bytes_per_second / 2**20:,.0f} MiB/s of reading on a node. Estimated for all trials on one node: "
            f"{self.files / 3600:.2g} h with files, {self.recompute / 3600:.2g} h computed in every step"
        )


def storage_seconds(
    need: StorageNeed, missing: float, reads: Mapping[str, float], rates: ActivationRates
) -> StorageSeconds:
    """Return what the two ways cost for `need`, of which the share `missing` is not in files yet.

    `reads` are those of `reads_of_images`; a file is taken to be written as fast as it is read.
    """
    read = sum(times * need.images * need.per_view[cut] for cut, times in reads.items())
    compute = missing * need.images * need.views / rates.images_per_second
    files = compute + (missing * need.total + read) / rates.bytes_per_second
    return StorageSeconds(rates, files, sum(reads.values()) * need.images / rates.images_per_second)


def probe_images(images: Any, transforms: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the first images of a study, and the transforms (n, 8) of their last view."""
    count = min(len(images), PROBE_IMAGES)
    return np.asarray(images[:count]), transforms[-1, :count]

"""Frozen activations in files of the study's folder.

    activations/KEY/CUT/part-00000.npy …   (1 + views, n, …) float16 of n images, in a random order of all images

KEY is a hash of all that the values depend on, so that an interrupted study computes only what is missing. Each file
appears complete or not at all. The folder is removed when every trial is finished.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_platform.models.frozen import BATCH, chunks
from cxr_platform.models.initial_weights import BackboneWeights
from cxr_platform.storage.files import file_sizes, make_folder, read_errors, write_errors
from cxr_platform.storage.node_cache import NodeCache
from cxr_platform.storage.paths import is_remote
from cxr_platform.training.array_files import FileArray, write_array
from cxr_platform.training.plan import StudyPlan

FOLDER = "activations"
FORMAT = 1
"""Number of the form of the files; raise it with a change, so that files of another form are not read."""


@dataclass(frozen=True)
class CutFiles:
    """Activations of all images at one cut, in `files`; image i of all files is row `rows[i]` of the study."""

    files: Sequence[FileArray]
    rows: NDArray[Any]


@dataclass(frozen=True)
class Recomputed:
    """Activations that every step computes from images."""


@dataclass(frozen=True)
class ActivationFiles:
    """The files below `folder` of `count` images; `shapes` are cut → shape of the activations of one image."""

    folder: Path
    shapes: Mapping[str, tuple[int, ...]]
    views: int
    count: int
    seed: int
    cache: NodeCache
    per_file: int = 8 * BATCH

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the order of all images, which a worker that writes one file does not need."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @cached_property
    def order(self) -> NDArray[Any]:
        """Row numbers (count,) of the images in the order of the files: every file is a random sample of all."""
        return np.random.default_rng([self.seed, 2]).permutation(self.count)

    @cached_property
    def rows_of_files(self) -> list[NDArray[Any]]:
        """Row numbers of the images of each file."""
        return [self.order[part] for part in chunks(self.count, self.per_file)]

    def missing(self) -> list[int]:
        """Return the numbers of the files that are not there, or too short, for a cut or several."""
        present = self._sizes()
        expected = [self.of_cut(cut).files for cut in self.shapes]
        return [
            number
            for number, files in enumerate(zip(*expected, strict=True))
            if any(present.get(f"{file.file.parent.name}/{file.file.name}") != file.file_bytes for file in files)
        ]

    def _sizes(self) -> dict[str, int]:
        """Return the bytes of the files that are there, by cut and name, from one listing."""
        with read_errors(self.folder):
            if is_remote(self.folder):
                return file_sizes(self.folder)
            files = self.folder.glob("*/part-*.npy")
            return {file.relative_to(self.folder).as_posix(): file.stat().st_size for file in files}

    def write(self, number: int, activations: Mapping[str, NDArray[Any]]) -> None:
        """Write the files `number` of cut → (1 + views, n, …) float16; raise `StorageError` if they cannot be."""
        for cut, array in activations.items():
            with write_errors(self.folder / cut):
                make_folder(self.folder / cut)
            write_array(self.folder / cut / _name(number), array)

    def of_cut(self, cut: str) -> CutFiles:
        """Return the activations at `cut`, which are read as they are needed."""
        shape = self.shapes[cut]
        names = [(_name(number), len(part)) for number, part in enumerate(self.rows_of_files)]
        files = [
            FileArray(self.folder / cut / name, (self.views, images, *shape), "float16", self.cache)
            for name, images in names
        ]
        return CutFiles(files, self.order)


def activation_key(plan: StudyPlan, imagenet: BackboneWeights) -> str:
    """Return the hash of all that the files depend on: images, their order and size, weights, views, and their form."""
    weights = hashlib.sha256()
    for name in sorted(imagenet):
        for array in imagenet[name]:
            weights.update(np.ascontiguousarray(array).tobytes())
    profile, identity = plan.profile, plan.identity()
    settings = {
        "format": FORMAT,
        "per_file": ActivationFiles.per_file,
        "manifest": plan.manifest.content_hash,
        "backend": identity["backend"],
        "seed": profile.seed,
        "input_size": profile.model.input_size,
        "alpha": profile.model.alpha,
        "augmentation": asdict(profile.augmentation),
        "weights": weights.hexdigest(),
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:24]


def _name(number: int) -> str:
    return f"part-{number:05d}.npy"

"""Compare training on activations in files with training on the same activations in memory.

Both train every fold of a manifest, with several seeds. Trials on files gather each batch from files of few images, of
which only some are read at a time, as of a study too large for memory; trials in memory are those of every other study.
The speed is that of the epochs after the first. The accuracies are out-of-fold, and the interval of their difference is
over the seeds: with one seed both ways begin from the same weights and predict the same patients, in another order of
the training images. It holds for the images and folds that were used.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import t as student

from cxr_platform.domain.strategies import ordered, strategy_by_name
from cxr_platform.errors import ConfigError
from pipelines.benchmarks import write_result
from pipelines.benchmarks.large_study_sections import STREAMED_TO_MEMORY
from pipelines.benchmarks.study import manifest_of_size, with_folds
from pipelines.options import ProfileOptions, add_profile_options, add_weights_option

if TYPE_CHECKING:
    from cxr_platform.training.data import StudyData
    from cxr_platform.training.inputs import Inputs
    from cxr_platform.training.trial import TrialResult, Workbench

MEMORY, FILES = "memory", "files"
LEAST_SEEDS = 2


@dataclass(frozen=True)
class StreamingRequest:
    """Manifest, folder of the files, strategies, images per file, number of seeds, and file of the result."""

    manifest: Path
    work: Path
    strategies: str
    per_file: int
    seeds: int
    imagenet_weights: Path | None
    profile: ProfileOptions
    json: Path | None


@dataclass(frozen=True)
class Compared:
    """One strategy: images per second in memory and from files, and accuracies in percent with each seed."""

    strategy: str
    files: int
    memory_rate: float
    files_rate: float
    memory_accuracies: Sequence[float]
    files_accuracies: Sequence[float]

    @property
    def ratio(self) -> float:
        """Speed with files / speed in memory."""
        return self.files_rate / self.memory_rate

    @property
    def difference(self) -> tuple[float, float, float]:
        """Mean over the seeds of files − memory in points, and its 95 % interval by Student's t (paired)."""
        each = np.subtract(self.files_accuracies, self.memory_accuracies)
        mean, error = float(each.mean()), float(each.std(ddof=1)) / len(each) ** 0.5
        half = error * float(student.ppf(0.975, len(each) - 1))
        return mean, mean - half, mean + half

    def __str__(self) -> str:
        mean, low, high = self.difference
        memory, files = fmean(self.memory_accuracies), fmean(self.files_accuracies)
        return (
            f"{self.strategy}: {self.memory_rate:.0f} images/s in memory, {self.files_rate:.0f} of {self.files} files, "
            f"ratio {self.ratio:.2f} (wanted {STREAMED_TO_MEMORY}); mean accuracy {memory:.2f} % and {files:.2f} %, "
            f"difference {mean:+.2f} points ({low:+.2f} to {high:+.2f})"
        )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `cxr benchmark streaming`."""
    parser.add_argument("--manifest", type=Path, required=True, help="folder of the manifest")
    parser.add_argument("--work", type=Path, required=True, help="folder of the activations")
    parser.add_argument(
        "--strategies", default="off-the-shelf,fine-tuning-1", help="strategies (default: off-the-shelf,fine-tuning-1)"
    )
    parser.add_argument("--per-file", type=int, default=32, metavar="N", help="images per file (default: 32)")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="seeds of each fold (default: 5)")
    add_weights_option(parser)
    add_profile_options(parser)
    parser.add_argument("--json", type=Path, help="file for the result, with hardware and versions")


def run(request: StreamingRequest) -> int:
    """Print speed and accuracy of both ways for each strategy; return 0.

    Raises `ConfigError` for scratch and for a single seed.
    """
    from cxr_platform.models.weights import find_weights, load_backbone_weights
    from cxr_platform.training.data import load_study_data
    from cxr_platform.training.devices import limit_process

    names = ordered(name.strip() for name in request.strategies.split(","))
    if any(strategy_by_name(name).cut is None for name in names):
        raise ConfigError("Expected strategies with frozen layers.", received=request.strategies)
    if request.seeds < LEAST_SEEDS:
        raise ConfigError(f"Expected at least {LEAST_SEEDS} seeds for an interval.", received=request.seeds)
    manifest = manifest_of_size(request.manifest, request.work / "manifest", request.profile)
    profile = with_folds(request.profile.load(), manifest)
    limit_process(profile.resources.cpu, 0.0, deterministic=True)
    data = load_study_data(manifest, "grouped", profile.folds, profile.model.input_size)
    imagenet = load_backbone_weights(find_weights(profile.model.alpha, request.imagenet_weights), profile.model.alpha)
    results = [_compare(request, profile, data, name, imagenet) for name in names]
    for result in results:
        print(result)
    if request.json:
        rows = [
            {**asdict(one), "ratio": one.ratio, **dict(zip(("difference", "low", "high"), one.difference, strict=True))}
            for one in results
        ]
        settings = {"images": len(data.labels), "folds": profile.folds, "per_file": request.per_file}
        write_result(request.json, "streaming", {**settings, "strategies": rows})
    return 0


def _compare(request: StreamingRequest, profile: Any, data: "StudyData", name: str, imagenet: Any) -> Compared:
    from cxr_platform.training.step import ONE_PROCESSOR
    from cxr_platform.training.trial import Workbench

    make = partial(Workbench, profile.model, profile.training, imagenet, "float32")
    in_files, in_memory, files = _inputs(request, profile, data, name, imagenet)
    ways: dict[str, tuple[Workbench, Inputs]] = {
        MEMORY: (make(replace(ONE_PROCESSOR, resident_bytes=float("inf"))), in_memory),
        FILES: (make(replace(ONE_PROCESSOR, resident_bytes=0.0)), in_files),
    }
    rates: dict[str, list[float]] = {way: [] for way in ways}
    correct = {way: np.zeros(request.seeds) for way in ways}
    for seed, fold, way in product(range(request.seeds), range(profile.folds), ways):  # in turns: both are slowed alike
        bench, inputs = ways[way]
        result = _trial(bench, name, data, inputs, fold, profile.seed + seed)
        rows = data.rows_of_fold(fold)
        correct[way][seed] += np.count_nonzero(result.probabilities.argmax(1) == data.labels[rows])
        images = len(data.labels) - len(rows)
        rates[way].append(images / median(epoch.seconds for epoch in result.history[1:]))
    return Compared(
        strategy=name,
        files=files,
        memory_rate=median(rates[MEMORY]),
        files_rate=median(rates[FILES]),
        memory_accuracies=(100 * correct[MEMORY] / len(data.labels)).tolist(),
        files_accuracies=(100 * correct[FILES] / len(data.labels)).tolist(),
    )


def _trial(bench: "Workbench", name: str, data: "StudyData", inputs: "Inputs", fold: int, seed: int) -> "TrialResult":
    from cxr_platform.training.trial import TrialData, run_trial, trial_seed

    rows = TrialData(inputs, data.labels, data.rows_outside(fold), data.rows_of_fold(fold))
    return run_trial(bench, strategy_by_name(name), rows, trial_seed(seed, fold))


def _inputs(
    request: StreamingRequest, profile: Any, data: "StudyData", name: str, imagenet: Any
) -> "tuple[Inputs, Inputs, int]":
    """Return the activations in files, the same in memory, and the number of files."""
    from cxr_platform.models.frozen import FrozenBackbone, view_transforms
    from cxr_platform.storage.node_cache import NodeCache
    from cxr_platform.training.activations.files import ActivationFiles
    from cxr_platform.training.activations.storage import activation_shapes
    from cxr_platform.training.inputs import FrozenInputs

    cut = strategy_by_name(name).cut
    assert cut is not None, "checked by `run`"
    shapes, count = activation_shapes((cut,), profile.model), len(data.labels)
    files = ActivationFiles(
        request.work / f"activations-{count}-{request.per_file}",
        shapes,
        1 + profile.augmentation.views,
        count,
        profile.seed,
        NodeCache(),
        request.per_file,
    )
    backbone = FrozenBackbone((cut,), profile.model, imagenet)
    transforms = view_transforms(count, profile.model.input_size, profile.augmentation, profile.seed)
    whole = np.empty((files.views, count, *shapes[cut]), "float16")
    for number, rows in enumerate(files.rows_of_files):
        views = [backbone.activations(np.asarray(data.images[rows]), view[rows])[cut] for view in transforms]
        whole[:, rows] = views
        files.write(number, {cut: np.stack(views)})
    chunks = files.of_cut(cut)
    return FrozenInputs(chunks.files, chunks.rows), FrozenInputs([whole]), len(chunks.files)

"""Compare training on activations in files with training on the same activations in memory.

Both train every fold of a manifest. Trials on files gather each batch from files of few images, of which only some are
read at a time, as of a study too large for memory; trials in memory are those of every other study. The speed is that
of the epochs after the first; the accuracies are out-of-fold, and their difference has an interval over patients. That
interval leaves out what other initial weights and another order of the images change: the trials in memory run once
more, with another seed.
"""

import argparse
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

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

MEMORY, FILES, AGAIN = "memory", "files", "memory, another seed"


@dataclass(frozen=True)
class StreamingRequest:
    """Manifest, folder of the files, strategies, images per file, and file of the result."""

    manifest: Path
    work: Path
    strategies: str
    per_file: int
    imagenet_weights: Path | None
    profile: ProfileOptions
    json: Path | None


@dataclass(frozen=True)
class Compared:
    """One strategy: images per second in memory and from files, accuracies in percent, and their difference.

    `again_accuracy` is that in memory with another seed.
    """

    strategy: str
    files: int
    memory_rate: float
    files_rate: float
    memory_accuracy: float
    files_accuracy: float
    difference: float
    low: float | None
    high: float | None
    again_accuracy: float

    @property
    def ratio(self) -> float:
        """Speed with files / speed in memory."""
        return self.files_rate / self.memory_rate

    def __str__(self) -> str:
        low, high = (("–" if bound is None else f"{bound:+.2f}") for bound in (self.low, self.high))
        return (
            f"{self.strategy}: {self.memory_rate:.0f} images/s in memory, {self.files_rate:.0f} of {self.files} files, "
            f"ratio {self.ratio:.2f} (wanted {STREAMED_TO_MEMORY}); accuracy {self.memory_accuracy:.2f} % and "
            f"{self.files_accuracy:.2f} %, difference {self.difference:+.2f} points ({low} to {high}); with another "
            f"seed in memory {self.again_accuracy:.2f} %"
        )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `cxr benchmark streaming`."""
    parser.add_argument("--manifest", type=Path, required=True, help="folder of the manifest")
    parser.add_argument("--work", type=Path, required=True, help="folder of the activations")
    parser.add_argument(
        "--strategies", default="off-the-shelf,fine-tuning-1", help="strategies (default: off-the-shelf,fine-tuning-1)"
    )
    parser.add_argument("--per-file", type=int, default=32, metavar="N", help="images per file (default: 32)")
    add_weights_option(parser)
    add_profile_options(parser)
    parser.add_argument("--json", type=Path, help="file for the result, with hardware and versions")


def run(request: StreamingRequest) -> int:
    """Print speed and accuracy of both ways for each strategy; return 0. Raises `ConfigError` for scratch."""
    from cxr_platform.models.weights import find_weights, load_backbone_weights
    from cxr_platform.training.data import load_study_data
    from cxr_platform.training.devices import limit_process

    names = ordered(name.strip() for name in request.strategies.split(","))
    if any(strategy_by_name(name).cut is None for name in names):
        raise ConfigError("Expected strategies with frozen layers.", received=request.strategies)
    manifest = manifest_of_size(request.manifest, request.work / "manifest", request.profile)
    profile = with_folds(request.profile.load(), manifest)
    limit_process(profile.resources.cpu, 0.0, deterministic=True)
    data = load_study_data(manifest, "grouped", profile.folds, profile.model.input_size)
    imagenet = load_backbone_weights(find_weights(profile.model.alpha, request.imagenet_weights), profile.model.alpha)
    results = [_compare(request, profile, data, name, imagenet) for name in names]
    for result in results:
        print(result)
    if request.json:
        rows = [{**asdict(result), "ratio": result.ratio} for result in results]
        settings = {"images": len(data.labels), "folds": profile.folds, "per_file": request.per_file}
        write_result(request.json, "streaming", {**settings, "strategies": rows})
    return 0


def _compare(request: StreamingRequest, profile: Any, data: "StudyData", name: str, imagenet: Any) -> Compared:
    from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
    from cxr_platform.training.step import ONE_PROCESSOR
    from cxr_platform.training.trial import Workbench

    make = partial(Workbench, profile.model, profile.training, imagenet, "float32")
    ways = {
        MEMORY: make(replace(ONE_PROCESSOR, resident_bytes=float("inf"))),
        FILES: make(replace(ONE_PROCESSOR, resident_bytes=0.0)),
    }
    ways[AGAIN] = ways[MEMORY]
    in_files, in_memory, files = _inputs(request, profile, data, name, imagenet)
    inputs: dict[str, Inputs] = {MEMORY: in_memory, FILES: in_files, AGAIN: in_memory}
    hits = {way: np.zeros(len(data.labels), bool) for way in ways}
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for fold in range(profile.folds):
        for way, bench in ways.items():  # in turns, so that other work on the machine slows both
            result = _trial(bench, name, data, inputs[way], fold, profile.seed + (way == AGAIN))
            rows = data.rows_of_fold(fold)
            hits[way][rows] = result.probabilities.argmax(1) == data.labels[rows]
            images = len(data.labels) - len(rows)
            rates[way].append(images / median(epoch.seconds for epoch in result.history[1:]))
    difference = Bootstrap(data.group_ids, seed=profile.seed).difference(hits[FILES], hits[MEMORY])
    accuracies = {way: 100 * float(hits[way].mean()) for way in ways}
    return Compared(
        strategy=name,
        files=files,
        memory_rate=median(rates[MEMORY]),
        files_rate=median(rates[FILES]),
        memory_accuracy=accuracies[MEMORY],
        files_accuracy=accuracies[FILES],
        difference=accuracies[FILES] - accuracies[MEMORY],
        low=difference.low,
        high=difference.high,
        again_accuracy=accuracies[AGAIN],
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

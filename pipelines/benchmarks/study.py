"""Compare a whole study with the same trials in a stock Keras script (`stock_study`), one after another.

Both train the same strategies on the same folds for the same number of epochs, at the same size, batch size and
learning rate, on all cores of the machine, with the installation warm and the manifest ready. Where the platform begins
with smaller images, the script has fewer epochs, with as many pixels in all. The platform is
`cxr cross-validate`, from its start to the pooled predictions; the report, which the script does not have, is left out.
"""

import argparse
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from cxr_platform.config import Profile, ScheduleConfig
from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.errors import ConfigError
from pipelines.benchmarks import write_result
from pipelines.benchmarks.processes import run_watched
from pipelines.options import ProfileOptions, add_profile_options, add_weights_option, strategy_list

if TYPE_CHECKING:
    from cxr_platform.manifest.store import Manifest
    from cxr_platform.training.data import StudyData


@dataclass(frozen=True)
class StudyBenchmarkRequest:
    """Manifest, size of the study, the folder for its files, and the JSON file for the result (`None`: print only)."""

    manifest: Path
    work: Path
    strategies: tuple[str, ...]
    engine: str
    imagenet_weights: Path | None
    json: Path | None
    profile: ProfileOptions


@dataclass(frozen=True)
class Outcome:
    """Seconds of a whole study, and pooled 7-class accuracy (0 to 1) by strategy."""

    seconds: float
    accuracy: dict[str, float]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `cxr benchmark study`."""
    add_measured_study_options(parser)


def add_measured_study_options(parser: argparse.ArgumentParser, strategies: str = "all") -> None:
    """Add the options of `StudyBenchmarkRequest`."""
    parser.add_argument("--manifest", type=Path, required=True, help="folder of a manifest; --limit and --folds cut it")
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="folder of studies, which are kept")
    parser.add_argument(
        "--strategies",
        type=strategy_list,
        default=strategies,
        help=f"names separated by commas, or all (default: {strategies})",
    )
    parser.add_argument("--engine", choices=("ray", "local"), default="ray", help="where trials run (default: ray)")
    add_weights_option(parser)
    add_profile_options(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result with hardware and versions")


def run(request: StudyBenchmarkRequest) -> int:
    """Print seconds and accuracies of both, and the ratio; return 0."""
    request.work.mkdir(parents=True, exist_ok=True)
    profile = request.profile.load()
    manifest = manifest_of_size(request.manifest, request.work / "manifest", request.profile)
    profile = with_folds(profile, manifest)
    settings = stock_settings(manifest, request, profile)
    facts = {
        "images": int(manifest.info.images),
        "folds": profile.folds,
        "strategies": list(request.strategies),
        "input_size": profile.model.input_size,
        "batch_size": profile.training.batch_size,
        "cores": os.cpu_count(),
        "profile": profile.name,
    }
    print(
        f"{facts['images']} images, {len(request.strategies)} strategies × {profile.folds} folds, "
        f"{profile.model.input_size} px, {facts['cores']} cores"
    )
    platform = run_platform(request, manifest)
    print(f"platform: {platform.seconds:8.1f} s", flush=True)
    stock = run_stock(request.work, settings)
    print(f"   stock: {stock.seconds:8.1f} s\n\n{'accuracy':<16}{'platform':>10}{'stock':>8}")
    for name in request.strategies:
        print(f"{name:<16}{platform.accuracy[name]:10.3f}{stock.accuracy[name]:8.3f}")
    ratio = stock.seconds / platform.seconds
    print(f"\nstock / platform: {ratio:.1f} times")
    if request.json is not None:
        outcomes = {
            name: {"seconds": outcome.seconds, "accuracy": outcome.accuracy}
            for name, outcome in (("platform", platform), ("stock", stock))
        }
        write_result(request.json, "study", {**facts, **outcomes, "stock_to_platform": ratio})
    return 0


def manifest_of_size(source: Path, folder: Path, options: ProfileOptions) -> "Manifest":
    """Return the manifest in `source`, or a part of it in `folder` if a limit or another number of folds is asked.

    Raises `ConfigError` for `--classes`: a manifest that is built has its images.
    """
    from cxr_platform.manifest.derived import part_of_manifest
    from cxr_platform.manifest.store import open_manifest

    if options.classes is not None:
        advice = "Build a manifest with it, and leave it out here."
        raise ConfigError(
            "Expected no --classes with a manifest that is built.", received=options.classes, advice=advice
        )
    manifest = open_manifest(source)
    if options.limit is None and options.folds in (None, manifest.info.folds):
        return manifest
    return part_of_manifest(manifest, folder, options.limit, options.folds)


def with_folds(profile: Profile, manifest: "Manifest") -> Profile:
    """Return `profile` with the folds of the manifest."""
    return replace(profile, folds=manifest.info.folds)


@dataclass(frozen=True)
class StudyCommand:
    """A study by `cxr cross-validate`, without its report: where its studies are, the engine, weights and profile."""

    runs: Path
    engine: str
    imagenet_weights: Path | None
    profile: ProfileOptions

    def words(self, manifest: "Manifest", name: str, strategies: Sequence[str], *more: str) -> list[str]:
        """Return the module and its arguments for the study `name`, with the folds of the manifest."""
        options: dict[str, object] = {
            "--manifest": manifest.folder,
            "--runs": self.runs,
            "--name": name,
            "--strategies": ",".join(strategies),
            "--engine": self.engine,
            "--profile": self.profile.profile,
            "--folds": manifest.info.folds,
            "--seed": self.profile.seed,
            "--input-size": self.profile.input_size,
            "--imagenet-weights": self.imagenet_weights,
        }
        given = [str(word) for pair in options.items() if pair[1] is not None for word in pair]
        return ["pipelines.cross_validate", *given, "--no-report", *more]


def run_platform(request: StudyBenchmarkRequest, manifest: "Manifest") -> Outcome:
    """Run the study anew with `cxr cross-validate`."""
    from cxr_platform.domain.study import read_study
    from cxr_platform.evaluation.metrics import evaluate
    from cxr_platform.evaluation.predictions import load_predictions

    study = request.work / "runs" / "platform"
    shutil.rmtree(study, ignore_errors=True)
    command = StudyCommand(study.parent, request.engine, request.imagenet_weights, request.profile)
    usage = run_watched(command.words(manifest, study.name, request.strategies))
    predictions = load_predictions(study, read_study(study))
    accuracy = {name: evaluate(predictions, name).pooled.accuracy_7_class or 0.0 for name in request.strategies}
    return Outcome(usage.seconds, {name: float(value) / 100 for name, value in accuracy.items()})


def run_stock(work: Path, settings: dict[str, Any]) -> Outcome:
    """Run the stock script in a process of its own."""
    file = work / "stock.json"
    file.write_text(json.dumps(settings))
    usage = run_watched(["pipelines.benchmarks.stock_study", str(file)])
    return Outcome(usage.seconds, json.loads(Path(settings["result"]).read_text()))


def _full_size_epochs(profile: Profile, schedule: ScheduleConfig, images: int) -> int:
    """Return the epochs of the stock script, whose images have one size: as many pixels as the platform trains on."""
    epochs = schedule.epochs_for(images, profile.training.batch_size)
    return round(schedule.full_size_epochs(epochs, profile.model.input_size))


def stock_settings(manifest: "Manifest", request: StudyBenchmarkRequest, profile: Profile) -> dict[str, Any]:
    """Write what the stock script reads, images in class folders and weights, and return its settings."""
    from cxr_platform.training.data import load_study_data

    data = load_study_data(manifest, "grouped", profile.folds, manifest.info.config.decoding.image_size)
    folders = request.work / "stock-images"
    write_class_folders(data, folders)
    strategies = {}
    for name in request.strategies:
        strategy = strategy_by_name(name)
        schedule = profile.training.schedule(strategy.family)
        trained = [len(data.rows_outside(fold)) for fold in range(profile.folds)]
        strategies[name] = {
            "cut": strategy.cut,
            "pretrained": strategy.pretrained,
            "learning_rate": schedule.learning_rate,
            "epochs": [_full_size_epochs(profile, schedule, images) for images in trained],
        }
    return {
        "folders": str(folders),
        "result": str(request.work / "stock-accuracy.json"),
        "weights": _write_weights(request, profile),
        "folds": profile.folds,
        "strategies": strategies,
        "seed": profile.seed,
        "batch_size": profile.training.batch_size,
        "input_size": profile.model.input_size,
        "alpha": profile.model.alpha,
        "dense_units": profile.model.dense_units,
        "dropout": profile.model.dropout,
        "rotation_degrees": profile.augmentation.rotation_degrees,
        "shift_fraction": profile.augmentation.shift_fraction,
    }


def write_class_folders(data: "StudyData", folder: Path) -> None:
    """Write each image once as PNG, and link it into `fold-K/train/CLASS` or `fold-K/test/CLASS` of every fold."""
    from cxr_platform.labels import CLASSES

    shutil.rmtree(folder, ignore_errors=True)
    (folder / "all").mkdir(parents=True)
    for number, image_id in enumerate(data.image_ids):
        file = folder / "all" / f"{image_id}.png"
        Image.fromarray(data.images[number]).save(file)
        for fold in np.unique(data.folds):
            part = "test" if data.folds[number] == fold else "train"
            place = folder / f"fold-{fold}" / part / CLASSES[data.labels[number]]
            place.mkdir(parents=True, exist_ok=True)
            os.link(file, place / file.name)


def _write_weights(request: StudyBenchmarkRequest, profile: Profile) -> str | None:
    """Write ImageNet weights in the form in which Keras' function takes them; `None` if no strategy needs them."""
    from cxr_platform.models.mobilenet import build_backbone
    from cxr_platform.models.weights import find_weights, load_backbone_weights

    if not any(strategy_by_name(name).pretrained for name in request.strategies):
        return None
    weights = load_backbone_weights(find_weights(profile.model.alpha, request.imagenet_weights), profile.model.alpha)
    backbone = build_backbone(profile.model)
    for layer in backbone.layers:
        if layer.weights:
            layer.set_weights(weights[layer.name])
    file = request.work / "imagenet.weights.h5"
    backbone.save_weights(file)
    return str(file)

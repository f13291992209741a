"""Measure how the time of a study grows with images, folds and strategies.

Each series changes one of the three and runs the whole study anew. The exponent is the slope of a straight line through
the logarithms of amount and seconds: 1 is linear. The seconds are those beyond the start-up, which is measured as the
time of the same command on a study that is finished (Ray's own start is not in it). With k folds a study trains each
image k − 1 times: that is the amount of the second series.
"""

import argparse
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cxr_platform.errors import ConfigError
from pipelines.benchmarks import write_result
from pipelines.benchmarks.processes import run_watched
from pipelines.benchmarks.study import (
    StudyBenchmarkRequest,
    StudyCommand,
    add_measured_study_options,
    manifest_of_size,
)

if TYPE_CHECKING:
    from cxr_platform.manifest.store import Manifest

LINEAR = 1.1
"""Largest exponent that counts as linear: times vary by some percent."""
SIMILAR = ("fine-tuning-7", "fine-tuning-9", "fine-tuning-5", "fine-tuning-11")
"""Strategies of nearly the same cost, in an order in which the mean cost of the first 1, 2 and 4 is about the same."""
FOLDS = (2, 3, 5)
PARTS = (0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Series:
    """What grows, its amounts, the seconds of each study beyond the start-up, and the exponent."""

    of: str
    amounts: tuple[float, ...]
    seconds: tuple[float, ...]
    exponent: float


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `cxr benchmark growth`."""
    add_measured_study_options(parser, strategies="fine-tuning-1")


def run(request: StudyBenchmarkRequest) -> int:
    """Print the times of every series, their exponents and the verdict; return 0."""
    request.work.mkdir(parents=True, exist_ok=True)
    manifest = manifest_of_size(request.manifest, request.work / "manifest", request.profile)
    smallest = _part(request, manifest, "images-0", PARTS[0], None)
    _measure(request, smallest, "start-up", request.strategies)
    start_up = _measure(request, smallest, "start-up", request.strategies, anew=False)
    print(f"{manifest.info.images} images, {os.cpu_count()} cores, start-up {start_up:.1f} s", flush=True)
    series = [
        _images(request, manifest, start_up),
        _folds(request, manifest, start_up),
        _strategies(request, manifest, start_up),
    ]
    worst = max(series, key=lambda one: one.exponent)
    print(verdict(worst))
    if request.json is not None:
        settings = {"images": manifest.info.images, "profile": request.profile.profile, "engine": request.engine}
        result = {"start_up_seconds": start_up, "series": [asdict(one) for one in series], "verdict": verdict(worst)}
        write_result(request.json, "growth", {**settings, **result})
    return 0


def exponent(amounts: Sequence[float], seconds: Sequence[float]) -> float:
    """Return the slope of the line through the logarithms, by least squares.

    Raises `ConfigError` for a single amount, and for studies that are no longer than the start-up.
    """
    if len(set(amounts)) < 2:
        raise ConfigError("Expected at least two different amounts.", received=list(amounts))
    if min(seconds) <= 0:
        advice = "Give a larger --limit, or more --strategies."
        raise ConfigError("Expected studies that take longer than the start-up.", received=list(seconds), advice=advice)
    return float(np.polyfit(np.log(amounts), np.log(seconds), 1)[0])


def verdict(worst: Series) -> str:
    """Return the sentence about the series with the largest exponent."""
    if worst.exponent <= LINEAR:
        return f"nothing worse than linear (largest exponent {worst.exponent:.2f}, {worst.of}; limit {LINEAR})"
    return f"worse than linear: {worst.of} with exponent {worst.exponent:.2f} (limit {LINEAR})"


def _images(request: StudyBenchmarkRequest, manifest: "Manifest", start_up: float) -> Series:
    parts = [_part(request, manifest, f"images-{number}", share, None) for number, share in enumerate(PARTS)]
    seconds = [_measure(request, part, "images", request.strategies) - start_up for part in parts]
    return _series("images", [part.info.images for part in parts], seconds)


def _folds(request: StudyBenchmarkRequest, manifest: "Manifest", start_up: float) -> Series:
    parts = [_part(request, manifest, f"folds-{folds}", PARTS[0], folds) for folds in FOLDS]
    seconds = [_measure(request, part, "folds", request.strategies) - start_up for part in parts]
    return _series("folds − 1", [folds - 1 for folds in FOLDS], seconds)


def _strategies(request: StudyBenchmarkRequest, manifest: "Manifest", start_up: float) -> Series:
    part, counts = _part(request, manifest, "images-0", PARTS[0], None), (1, 2, 4)
    seconds = [_measure(request, part, "strategies", SIMILAR[:count]) - start_up for count in counts]
    return _series("strategies", counts, seconds)


def _series(of: str, amounts: Sequence[float], seconds: Sequence[float]) -> Series:
    one = Series(of, tuple(amounts), tuple(seconds), exponent(amounts, seconds))
    times = ", ".join(f"{amount:g}: {time:.1f} s" for amount, time in zip(amounts, seconds, strict=True))
    print(f"{of:<10} exponent {one.exponent:5.2f}   {times}", flush=True)
    return one


def _part(
    request: StudyBenchmarkRequest, manifest: "Manifest", name: str, share: float, folds: int | None
) -> "Manifest":
    """Return a manifest with `share` of the images of the most frequent class, and no more of the others."""
    most = max(sum(by_source.values()) for by_source in manifest.info.counts.values())
    options = replace(request.profile, limit=round(share * most), folds=folds)
    return manifest_of_size(manifest.folder, request.work / f"manifest-{name}", options)


def _measure(
    request: StudyBenchmarkRequest, manifest: "Manifest", name: str, strategies: Sequence[str], anew: bool = True
) -> float:
    if anew:
        shutil.rmtree(request.work / "runs" / name, ignore_errors=True)
    command = StudyCommand(request.work / "runs", request.engine, request.imagenet_weights, request.profile)
    return run_watched(command.words(manifest, name, strategies)).seconds

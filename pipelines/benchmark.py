"""Measure the platform against simple baselines.

cxr benchmark NAME [options]
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pipelines.benchmarks import (
    archive,
    folds,
    gpu,
    growth,
    head,
    manifest,
    overhead,
    page,
    recipe,
    robust,
    serving,
    statistics,
    step,
    streaming,
    study,
    trials,
)
from pipelines.command import run_command
from pipelines.options import build_request


class Benchmark(NamedTuple):
    """A sub-command: its line in the help, its options, the record of their values, and the function that runs it."""

    summary: str
    add_options: Callable[[argparse.ArgumentParser], None]
    request: type[Any]
    run: Callable[[Any], int]


BENCHMARKS = {
    "study": Benchmark(
        "seconds and accuracies of a whole study, against a stock Keras script",
        study.add_options,
        study.StudyBenchmarkRequest,
        study.run,
    ),
    "folds": Benchmark(
        "seconds that a fold costs beyond its training steps, against Keras' model.fit",
        folds.add_options,
        folds.FoldsRequest,
        folds.run,
    ),
    "step": Benchmark(
        "images per second of the training loop, against the bare compiled step and Keras' model.fit",
        step.add_options,
        step.StepRequest,
        step.run,
    ),
    "overhead": Benchmark(
        "where the seconds of a trial go, and the share of the cores that a study leaves idle",
        overhead.add_options,
        overhead.OverheadRequest,
        overhead.run,
    ),
    "gpu": Benchmark(
        "images per second on a GPU against its limits and Keras' model.fit; trials an hour by how many run at once",
        gpu.add_options,
        gpu.GpuRequest,
        gpu.run,
    ),
    "growth": Benchmark(
        "how the time of a study grows with images, folds and strategies",
        growth.add_options,
        study.StudyBenchmarkRequest,
        growth.run,
    ),
    "trials": Benchmark(
        "what a study of many short trials costs beyond them: time, the driver's memory, `cxr study status`",
        trials.add_options,
        trials.TrialsRequest,
        trials.run,
    ),
    "recipe": Benchmark(
        "accuracy of settings of the training from scratch, on a split within the training part of fold 0",
        recipe.add_options,
        recipe.RecipeRequest,
        recipe.run,
    ),
    "robust": Benchmark(
        "AUC at origins that a head was not trained on, with each option of the profile's [robust] on and off",
        robust.add_options,
        robust.RobustRequest,
        robust.run,
    ),
    "head": Benchmark(
        "accuracy of the off-the-shelf head against a logistic regression on the same features",
        head.add_options,
        head.HeadRequest,
        head.run,
    ),
    "manifest": Benchmark(
        "speed of decoding against a bare loop; memory and time of a manifest of many images and of a quarter of them",
        manifest.add_options,
        manifest.ManifestBenchmarkRequest,
        manifest.run,
    ),
    "streaming": Benchmark(
        "speed and accuracy of training on activations in files, against the same in memory",
        streaming.add_options,
        streaming.StreamingRequest,
        streaming.run,
    ),
    "archive": Benchmark(
        "memory, time and bytes of manifest, study and report of 112,120 images, and of fewer",
        archive.add_options,
        archive.ArchiveRequest,
        archive.run,
    ),
    "serving": Benchmark(
        "images per second of the server, against decoding and ONNX Runtime alone, plain FastAPI, BentoML and LitServe",
        serving.add_options,
        serving.ServingRequest,
        serving.run,
    ),
    "statistics": Benchmark(
        "how often tests, intervals and corrections of the report are wrong, in simulated studies",
        statistics.add_options,
        statistics.StatisticsRequest,
        statistics.run,
    ),
    "page": Benchmark(
        "a page of the results of several benchmarks, with the claims that they meet or miss",
        page.add_options,
        page.PageRequest,
        page.run,
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one benchmark and return its exit code."""
    values = vars(parser().parse_args(argv))
    benchmark = BENCHMARKS[values["benchmark"]]
    return run_command(lambda: benchmark.run(build_request(benchmark.request, values)))


def parser() -> argparse.ArgumentParser:
    """Return the options of `cxr benchmark`."""
    parser = argparse.ArgumentParser(prog="cxr benchmark", description="Measure the platform against simple baselines.")
    names = parser.add_subparsers(dest="benchmark", required=True)
    for name, benchmark in BENCHMARKS.items():
        benchmark.add_options(names.add_parser(name, help=benchmark.summary, description=benchmark.summary))
    return parser


if __name__ == "__main__":
    raise SystemExit(main())

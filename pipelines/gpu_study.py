"""Measure a GPU and run the whole study of the paper on it, on a machine with JAX and neither TensorFlow nor Ray.

    cxr gpu-study pack --manifest data/manifests/NAME --out images.parquet
    KERAS_BACKEND=jax cxr gpu-study run --images images.parquet --out gpu-results
    cxr gpu-study page --results gpu-results/gpu-study.json --out docs/results/DATE-gpu.md

`run` takes a packed manifest or the folder of one. It writes its results, gpu-study.json, and what a later call on
another machine continues from, progress.tar.gz.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cxr_platform.errors import ConfigError, StudyError, first_line
from cxr_platform.storage.files import write_atomically
from cxr_platform.training.devices import hardware
from cxr_platform.training.mps import mps_daemon, mps_for, mps_is_running
from pipelines.benchmarks import complete, write_page_text, write_result
from pipelines.benchmarks.gpu_sharing import best_at_once
from pipelines.benchmarks.gpu_study_results import gpu_study_page, study_result
from pipelines.command import run_command
from pipelines.options import (
    ProfileOptions,
    add_profile_options,
    add_weights_option,
    build_request,
    positive,
    strategy_list,
)

if TYPE_CHECKING:
    from cxr_platform.manifest.store import Manifest

Json = TypeVar("Json", dict[str, Any], list[Any])

RESULT, PROGRESS, BENCHMARK, CALLS = "gpu-study.json", "progress.tar.gz", "gpu.json", "calls.json"
KIND = "gpu-study"
AGAIN = "Delete the file to go on without it."
NAME = "gpu"
KEPT = NAME, BENCHMARK, CALLS
"""What `PROGRESS` has of the folder of the study."""

BEST_QUALITY = 100
STOP_SECONDS = 15.0
"""Time that an interrupted study has to end by itself."""

BENCHMARK_SHARE = 0.4
"""Share of `--seconds` that the benchmark may take, so that the study gets the rest."""

RESERVE_SECONDS = STOP_SECONDS + 20.0
"""Time that is kept of `--seconds` for that and for the results."""


@dataclass(frozen=True)
class PackRequest:
    """A manifest, the file to write, and the quality of its JPEG images."""

    manifest: Path
    out: Path
    quality: int


@dataclass(frozen=True)
class RunRequest:
    """Images, places, and which parts to run within how many seconds (`None`: to the end)."""

    images: Path
    out: Path
    work: Path
    strategies: tuple[str, ...]
    processes: int | None
    seconds: float | None
    resume: Path | None
    skip_benchmark: bool
    benchmark_options: str
    imagenet_weights: Path | None
    profile: ProfileOptions


@dataclass(frozen=True)
class PageRequest:
    """The results of a run, and the Markdown page to write."""

    results: Path
    out: Path


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 0 (also if `--seconds` ended the run), 1 if trials failed, 2 for a request that cannot be
    run, 130 when interrupted."""
    values = vars(parser().parse_args(argv))
    commands: dict[str, tuple[type[Any], Callable[[Any], int]]] = {
        "pack": (PackRequest, pack),
        "run": (RunRequest, run_all),
        "page": (PageRequest, write_page),
    }
    request, run = commands[values["command"]]
    return run_command(lambda: run(build_request(request, values)))


def parser() -> argparse.ArgumentParser:
    """Return the options of `cxr gpu-study`."""
    parser = argparse.ArgumentParser(
        prog="cxr gpu-study", description="Measure a GPU and run the paper's study on it, with JAX and without Ray."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    summary = "write the study images of a manifest to one small file, to copy to the machine with the GPU"
    packing = commands.add_parser("pack", help=summary, description=summary)
    packing.add_argument("--manifest", type=Path, required=True, help="folder of the manifest")
    packing.add_argument("--out", type=Path, required=True, metavar="FILE", help="Parquet file to write")
    packing.add_argument("--quality", type=quality, default=95, help="quality of the JPEG images (default: 95)")
    summary = "measure the GPU, run the study or continue it, and write the results"
    running = commands.add_parser("run", help=summary, description=summary)
    running.add_argument("--images", type=Path, required=True, help="packed manifest, or folder of a manifest")
    running.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder of the results")
    running.add_argument("--work", type=Path, default=Path("runs"), help="folder of the study (default: runs)")
    running.add_argument("--strategies", type=strategy_list, default="all", help="names, or all (default: all)")
    running.add_argument(
        "--processes", type=positive, metavar="N", help="trials at once (default: the fastest of the benchmark, or 4)"
    )
    running.add_argument(
        "--seconds",
        type=seconds_of_call,
        help="stop in time to write the results after so many seconds, of which the benchmark takes "
        f"{BENCHMARK_SHARE:.0%}% at most",
    )
    running.add_argument("--resume", type=Path, metavar="FILE", help=f"continue from the {PROGRESS} of an earlier call")
    running.add_argument("--skip-benchmark", action="store_true", help="run the study only")
    running.add_argument(
        "--benchmark-options", default="", metavar="TEXT", help="options of `cxr benchmark gpu`, in one argument"
    )
    add_weights_option(running)
    add_profile_options(running)
    running.set_defaults(profile="paper")
    summary = "write the results as a page of the documentation"
    page = commands.add_parser("page", help=summary, description=summary)
    page.add_argument("--results", type=Path, required=True, metavar="FILE", help=f"{RESULT} of a run")
    page.add_argument("--out", type=Path, required=True, metavar="FILE", help="Markdown file to write")
    return parser


def seconds_of_call(text: str) -> float:
    """Return the seconds of a call; raise `ArgumentTypeError` where nothing is left of them for a study."""
    number = positive(text)
    if number <= RESERVE_SECONDS:
        raise argparse.ArgumentTypeError(f"expected more than {RESERVE_SECONDS:.0f}, which its end takes, not {text!r}")
    return float(number)


def quality(text: str) -> int:
    """Return a quality of JPEG images; raise `ArgumentTypeError` for a number that is none."""
    number = positive(text)
    if number > BEST_QUALITY:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to {BEST_QUALITY}, not {text!r}")
    return number


def pack(request: PackRequest) -> int:
    """Write the packed manifest and print its size; return 0."""
    from cxr_platform.manifest.derived import pack_manifest
    from cxr_platform.manifest.store import open_manifest

    pack_manifest(open_manifest(request.manifest), request.out, request.quality)
    print(f"{request.out}: {request.out.stat().st_size / 1e6:.1f} MB")
    return 0


def run_all(request: RunRequest) -> int:
    """Run what is left of the benchmark and of the study, and write the results; return the exit code of the study."""
    began, resources = time.monotonic(), request.profile.load().resources
    earlier = request.out / PROGRESS
    if request.resume is None and earlier.exists() and not any((request.work / name).exists() for name in KEPT):
        raise ConfigError(
            f"Expected the study of {earlier} in {request.work}, or --resume with that file.",
            received="neither: this call would replace its progress",
            advice=f"Add --resume {earlier}, or give another --out to begin anew.",
        )
    request.out.mkdir(parents=True, exist_ok=True)
    request.work.mkdir(parents=True, exist_ok=True)
    if request.resume is not None:
        try:
            with tarfile.open(request.resume) as archive:
                archive.extractall(request.work, filter="data")
        except (OSError, tarfile.TarError) as error:
            raise ConfigError(
                f"Expected the {PROGRESS} of an earlier call in {request.resume}.", received=first_line(error)
            ) from error
    manifest, quality = _manifest(request)
    try:
        with mps_for(resources):
            measured = _measure(request, began)
            processes, mps = request.processes or min(4, os.cpu_count() or 1), False
            if measured is not None and measured.get("at_once"):
                processes, mps = best_at_once(measured, request.processes)
            with mps_daemon() if mps else nullcontext():
                code, calls = _run_study(request, manifest, processes, began)
    finally:
        _keep_progress(request)
    study = study_result(request.work / NAME, manifest) | {"jpeg_quality": quality, "calls": calls}
    write_result(request.out / RESULT, KIND, {"benchmark_gpu": measured, "study": study})
    print(f"{study['finished']} of {study['trials']} trials finished; results in {request.out / RESULT}")
    if study["finished"] < study["trials"]:
        print(f"To continue: the same command, elsewhere with --resume {request.out / PROGRESS}")
    return code or 0


def write_page(request: PageRequest) -> int:
    """Write the page; return 0."""
    result: dict[str, Any] = _json(request.results, "the results of a run", dict)
    write_page_text(request.out, complete(request.results, result, {KIND: gpu_study_page}))
    print(request.out)
    return 0


def _json(file: Path, content: str, kind: type[Json], advice: str = "") -> Json:
    """Return the `content` of a JSON file; raise `ConfigError` if it cannot be read or is not a `kind`."""
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"Expected {content} in {file}.", received=first_line(error), advice=advice) from error
    if not isinstance(found, kind):
        raise ConfigError(f"Expected {content} in {file}.", received=f"a {type(found).__name__}", advice=advice)
    return found


def _manifest(request: RunRequest) -> tuple["Manifest", int | None]:
    """Return the manifest, or the part of it that the options ask for, and the JPEG quality if it was packed."""
    from cxr_platform.manifest.derived import packed_quality, unpack_manifest
    from pipelines.benchmarks.study import manifest_of_size

    folder, quality = request.images, None
    if not folder.is_dir():
        folder, quality = request.work / "manifest", packed_quality(request.images)
        unpack_manifest(request.images, folder)
    return manifest_of_size(folder, request.work / "manifest-part", request.profile), quality


def _measure(request: RunRequest, began: float) -> dict[str, Any] | None:
    """Run what is left of the benchmark. Return its result; `None` if it was skipped or interrupted before any."""
    file = request.work / BENCHMARK
    earlier = _benchmark(file)
    if not request.skip_benchmark and not (earlier and earlier.get("at_once")):
        command = ["pipelines.benchmarks.gpu", "--json", str(file), *request.benchmark_options.split()]
        if earlier and earlier.get("hardware") == hardware().model_dump(mode="json"):
            command.append("--only-at-once")
        code = _run(command, _left(request, began, BENCHMARK_SHARE))
        if code:
            raise StudyError(
                "Expected `cxr benchmark gpu` to succeed.",
                received=f"exit code {code}",
                advice="Give it smaller sizes with --benchmark-options, or --skip-benchmark and --processes.",
            )
    return _benchmark(file)


def _benchmark(file: Path) -> dict[str, Any] | None:
    return _json(file, "the result of `cxr benchmark gpu`", dict, AGAIN) if file.is_file() else None


def _run_study(
    request: RunRequest, manifest: "Manifest", processes: int, began: float
) -> tuple[int | None, list[dict[str, Any]]]:
    """Run the study. Return its exit code, `None` if its time was over, and what each call so far took."""
    from pipelines.benchmarks.processes import watched_gpu
    from pipelines.benchmarks.study import StudyCommand

    file = request.work / CALLS
    calls: list[dict[str, Any]] = _json(file, "what earlier calls took", list, AGAIN) if file.is_file() else []
    study = StudyCommand(request.work, "local", request.imagenet_weights, request.profile)
    command = study.words(manifest, NAME, request.strategies, "--processes", str(processes))
    started = time.monotonic()
    with watched_gpu() as busy:
        try:
            code = _run(command, _left(request, began))
        finally:  # its trials are kept when it is interrupted, and so is what they took
            seconds = time.monotonic() - started
            calls.append({"seconds": seconds, "processes": processes, "mps": mps_is_running(), "gpu_busy": busy()})
            write_atomically(file, json.dumps(calls).encode())
    return code, calls


def _run(command: Sequence[str], seconds: float | None) -> int | None:
    """Run `python -m command`. Return its exit code, or `None` if it was stopped after `seconds`.

    SIGTERM, which a scheduler sends before it takes the machine, interrupts as Ctrl-C does. Both do so in the command
    too, which would ignore Ctrl-C where this process was started in the background of a shell.
    """
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with subprocess.Popen([sys.executable, "-m", *command], start_new_session=True) as process:
            try:
                return process.wait(seconds)
            except subprocess.TimeoutExpired:
                return None
            finally:
                if process.poll() is None:
                    _stop(process)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Interrupt a process, and kill it and those that it started if it does not end."""
    process.send_signal(signal.SIGINT)
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    finally:  # a second Ctrl-C too
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def _left(request: RunRequest, began: float, share: float = 1.0) -> float | None:
    """Return the seconds that are left of `share` of `--seconds`, at least 1; `None` without that option."""
    if request.seconds is None:
        return None
    return max(1.0, share * (request.seconds - RESERVE_SECONDS) - (time.monotonic() - began))


def _keep_progress(request: RunRequest) -> None:
    """Write an archive of the finished trials, without their weights, and of what was measured."""

    def small(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        running = any(part.endswith(".run") for part in Path(member.name).parts)
        return None if running or member.name.endswith((".weights.h5", ".lock")) else member

    present = [name for name in KEPT if (request.work / name).exists()]
    if not present:
        return
    partial = request.out / f"{PROGRESS}.partial"
    with tarfile.open(partial, "w:gz") as archive:
        for name in present:
            archive.add(request.work / name, name, filter=small)
    partial.replace(request.out / PROGRESS)


if __name__ == "__main__":
    raise SystemExit(main())

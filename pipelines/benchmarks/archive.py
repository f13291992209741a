"""Measure a study of a whole archive, by default as large as NIH ChestX-ray14, and one of fewer images.

Drawn images of `manifest.SIDE` pixels become a manifest; two strategies are trained on it with activations in files;
the report is written. Each stage runs in a process of its own, whose memory and bytes are those of `processes.watch`. A
stage that was measured before is not run again, so that the benchmark can be interrupted.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cxr_platform.domain.study import read_study
from cxr_platform.errors import StudyError
from cxr_platform.evaluation.resource_use import read_resource_use
from cxr_platform.storage.files import write_json
from pipelines.benchmarks import write_result
from pipelines.benchmarks.large_study_sections import LARGEST_PROCESS_MIB
from pipelines.benchmarks.manifest import draw
from pipelines.benchmarks.page_sections import MEMORY_GROWTH
from pipelines.benchmarks.processes import watch

STRATEGIES = "off-the-shelf,fine-tuning-1"
PROFILE = """\
folds = 2
[model]
input_size = 96
batch_norm_momentum = 0.9
[augmentation]
views = 1
[training]
batch_size = 32
off_the_shelf = { epochs = 3, learning_rate = 0.001 }
fine_tuning = { epochs = 2, learning_rate = 0.0005 }
scratch = { epochs = 1, learning_rate = 0.001 }
[resources]
cpu = 1.0
activations = "files"
"""
"""Few epochs: each reads all that the others read."""

RUNS, STUDY = "runs", "archive"
STAGES = ("manifest", "study", "report")


@dataclass(frozen=True)
class ArchiveRequest:
    """Number of images, that of the smaller run, the folder in which everything is kept, file of the result."""

    images: int
    fewer: int
    work: Path
    imagenet_weights: Path | None
    json: Path | None


@dataclass(frozen=True)
class Stage:
    """One stage: number of images, seconds, peaks of memory in MiB, and GiB read from and written to the disk."""

    name: str
    images: int
    seconds: float
    driver_mib: float
    worker_mib: float
    read_gib: float
    written_gib: float

    @property
    def largest_mib(self) -> float:
        """Peak of memory of the largest process."""
        return max(self.driver_mib, self.worker_mib)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `cxr benchmark archive`."""
    parser.add_argument("--images", type=int, default=112_120, help="number of images (default: 112120)")
    parser.add_argument("--fewer", type=int, default=20_000, help="images of the smaller run (default: 20000)")
    parser.add_argument("--work", type=Path, required=True, help="folder of images, manifests and studies")
    parser.add_argument("--imagenet-weights", type=Path, help="file of the ImageNet weights")
    parser.add_argument("--json", type=Path, help="file for the result, with hardware and versions")


def run(request: ArchiveRequest) -> int:
    """Print every stage of both runs and their ratios; return 0, or raise `StudyError` if a stage fails."""
    request.work.mkdir(parents=True, exist_ok=True)
    (request.work / "archive.toml").write_text(PROFILE, encoding="utf-8")
    runs = {images: _stages(request, images) for images in (request.fewer, request.images)}
    lines = verdicts(runs[request.fewer], runs[request.images])
    print("\n".join(lines))
    if request.json:
        stages = [asdict(stage) for stages in runs.values() for stage in stages]
        caches = [{"images": images, **_cache_use(request.work / str(images))} for images in runs]
        result = {"strategies": STRATEGIES, "profile": PROFILE, "stages": stages, "caches": caches}
        write_result(request.json, "archive", {**result, "verdicts": lines})
    return 0


def verdicts(fewer: Sequence[Stage], many: Sequence[Stage]) -> list[str]:
    """Return a line per stage with the ratio of the peaks, and one about the largest process of all."""
    lines = []
    for small, large in zip(fewer, many, strict=True):
        ratio, seconds = large.largest_mib / small.largest_mib, large.seconds / small.seconds
        lines.append(
            f"{large.name}: {large.images / small.images:.1f} times the images take {seconds:.1f} times the time and "
            f"{ratio:.2f} times the peak memory"
        )
    worst, before = (max(run, key=lambda stage: stage.largest_mib) for run in (many, fewer))
    growth = worst.largest_mib / before.largest_mib
    kept = worst.largest_mib <= LARGEST_PROCESS_MIB and growth <= MEMORY_GROWTH
    lines.append(
        f"largest process {worst.largest_mib:.0f} MiB ({worst.name}), {growth:.2f} times that of fewer images; limits "
        f"{LARGEST_PROCESS_MIB} MiB and {MEMORY_GROWTH} times: {'met' if kept else 'missed'}"
    )
    return lines


def _stages(request: ArchiveRequest, images: int) -> list[Stage]:
    """Return the stages of one run, and print each."""
    work = request.work / str(images)
    work.mkdir(exist_ok=True)
    draw(work / "images", images)
    stages = []
    for name in STAGES:
        stage = _measured(work / f"{name}.json") or _measure(name, images, _command(request, work, name), work)
        print(
            f"{stage.images:7,} images, {stage.name:>8}: {stage.seconds:7.1f} s, driver {stage.driver_mib:6.0f} MiB, "
            f"largest other process {stage.worker_mib:6.0f} MiB, read {stage.read_gib:.2f} GiB, "
            f"written {stage.written_gib:.2f} GiB",
            flush=True,
        )
        stages.append(stage)
    return stages


def _cache_use(work: Path) -> dict[str, int]:
    """Return the fields of `CacheUse` of the study's trials; nothing if they state none."""
    study = work / RUNS / STUDY
    use = read_resource_use(study, read_study(study)).cache
    return use.model_dump() if use is not None else {}


def _command(request: ArchiveRequest, work: Path, name: str) -> list[str]:
    profile = ["--profile", str(request.work / "archive.toml")]
    weights = ["--imagenet-weights", str(request.imagenet_weights)] if request.imagenet_weights else []
    manifest, study = str(work / "manifest"), work / RUNS / STUDY
    commands = {
        "manifest": ["pipelines.manifest", "--data", str(work / "images"), "--out", manifest, *profile],
        "study": [
            *("pipelines.cross_validate", "--manifest", manifest, "--runs", str(study.parent), "--name", study.name),
            *("--strategies", STRATEGIES, "--no-report", *profile, *weights),
        ],
        "report": ["pipelines.report", "--study", str(study), "--manifest", manifest, *weights],
    }
    return commands[name]


def _measure(name: str, images: int, command: Sequence[str], work: Path) -> Stage:
    """Run one stage and write what was measured; raise `StudyError` with the place of its output if it fails."""
    if name == "manifest":  # images in its cache would not be decoded again
        for earlier in work.glob("manifest*"):
            shutil.rmtree(earlier) if earlier.is_dir() else earlier.unlink()
    log, started = work / f"{name}.log", time.monotonic()
    with (
        log.open("w") as output,
        subprocess.Popen([sys.executable, "-m", *command], stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        peaks = watch(process)
    seconds = time.monotonic() - started
    if process.returncode:
        raise StudyError(
            f"Expected the {name} of {images} images to succeed.",
            received=f"exit code {process.returncode}",
            advice=f"Read {log}.",
        )
    stage = Stage(name, images, seconds, peaks.own_mib, peaks.largest_other_mib, peaks.read_gib, peaks.written_gib)
    write_json(work / f"{name}.json", asdict(stage))
    return stage


def _measured(file: Path) -> Stage | None:
    return Stage(**json.loads(file.read_bytes())) if file.exists() else None

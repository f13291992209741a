"""Whether building a manifest takes memory and time in proportion: many drawn images against a quarter of them.

    python -m pipelines.benchmark_manifest --images 20000 --work FOLDER

Both builds run in one go on the same machine, each in processes of its own, nothing cached. Memory is the peak of
resident memory of the driver and of the largest worker, as Linux counts it (VmHWM), shared memory included.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cxr_platform.errors import ConfigError
from cxr_platform.labels import CLASSES
from pipelines.command import run_command

SIDE = 128
"""Pixels of the drawn images: small originals, so that drawing them takes minutes and not hours."""

LOOK_SECONDS = 0.5
QUARTER = 4


@dataclass(frozen=True)
class Build:
    """One build: `images` looked at, seconds, and peaks of memory in MiB."""

    images: int
    seconds: float
    driver_mib: float
    worker_mib: float

    @property
    def seconds_a_thousand(self) -> float:
        """Of images."""
        return 1000 * self.seconds / self.images


def main(argv: Sequence[str] | None = None) -> int:
    """Print both builds and their ratios; returns 0, or the exit code of a build that failed."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.benchmark_manifest", description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--work", type=Path, required=True, help="where images and manifests are put; kept afterwards")
    arguments = parser.parse_args(argv)
    return run_command(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    counts = (arguments.images // QUARTER, arguments.images)
    for images in counts:
        draw(arguments.work / f"images-{images}", images)
    few, many = (measure(arguments.work, images) for images in counts)
    print(f"{os.cpu_count()} cores, drawn images of {SIDE} px")
    for build in (few, many):
        print(
            f"{build.images:7,} images: {build.seconds:6.1f} s, {build.seconds_a_thousand:5.2f} s a thousand, "
            f"driver {build.driver_mib:6.0f} MiB, largest worker {build.worker_mib:6.0f} MiB"
        )
    print(
        f"ratio: driver {many.driver_mib / few.driver_mib:.2f}, worker {many.worker_mib / few.worker_mib:.2f}, "
        f"seconds a thousand {many.seconds_a_thousand / few.seconds_a_thousand:.2f}"
    )
    return 0


def draw(folder: Path, images: int) -> None:
    """The phantom collection of `images` images, unless it stands there."""
    from cxr_platform.intake.phantoms.collection import write_collection

    write_collection(folder, images // len(CLASSES), seed=2020, size=SIDE)


def measure(work: Path, images: int) -> Build:
    """Build the manifest of the drawn images in a process of its own, and watch it and its workers."""
    command = [sys.executable, "-m", "pipelines.manifest", "--profile", "quick"]
    places = ["--data", str(work / f"images-{images}"), "--out", str(work / f"manifest-{images}")]
    for earlier in work.glob(f"manifest-{images}*"):  # the images of its cache would not be decoded again
        shutil.rmtree(earlier)
    began = time.monotonic()
    with subprocess.Popen([*command, *places], stdout=subprocess.DEVNULL) as process:
        peaks = _watch(process)
    seconds = time.monotonic() - began
    if process.returncode:
        raise ConfigError("Expected the build to succeed.", received=f"exit code {process.returncode}")
    workers = [peak for pid, peak in peaks.items() if pid != process.pid]
    return Build(images, seconds, peaks[process.pid], max(workers, default=0.0))


def _watch(process: "subprocess.Popen[bytes]") -> dict[int, float]:
    """Peaks in MiB by process id, of the process and of Ray's workers below it, until it ends."""
    peaks: dict[int, float] = {}
    while process.poll() is None:
        for pid in (process.pid, *_workers(process.pid)):
            peaks[pid] = max(peaks.get(pid, 0.0), peak_mib(pid))
        time.sleep(LOOK_SECONDS)
    return peaks


def peak_mib(pid: int) -> float:
    """VmHWM of a process in MiB; 0 where it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0.0)


def _workers(driver: int) -> Iterator[int]:
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cmdline").read_bytes().startswith(b"ray::") and driver in _ancestors(int(entry.name)):
                yield int(entry.name)
        except OSError:  # it has just ended
            continue


def _ancestors(pid: int) -> list[int]:
    line: list[int] = []
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
        line.append(pid)
    return line


if __name__ == "__main__":
    raise SystemExit(main())

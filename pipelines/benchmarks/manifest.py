"""Measure the speed of decoding, and whether a manifest takes memory and time in proportion to its images.

Decoding (`decoding`) is measured on `--files`, or on drawn images of 1,024 pixels. Then a manifest of many drawn images
is built, and one of a quarter of them. Both builds run in processes of their own, with nothing cached. Memory is the
peak resident memory of the driver and of the largest other process (`processes.watch`).
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2

from cxr_platform.config import load_profile
from cxr_platform.errors import ConfigError
from cxr_platform.labels import CLASSES
from pipelines.benchmarks import write_result
from pipelines.benchmarks.decoding import Rates, measure_rates
from pipelines.benchmarks.processes import watch

SIDE = 128
"""Height of the drawn images in pixels: small, so that drawing them takes minutes, not hours."""

LARGE_IMAGES, LARGE_SIDE, MOST_FILES = 70, 1024, 400

QUARTER = 4
LEAST_IMAGES = QUARTER * len(CLASSES)
"""Images of which the quarter has one of each class."""


@dataclass(frozen=True)
class Build:
    """One build: number of images, seconds, and peaks of memory in MiB."""

    images: int
    seconds: float
    driver_mib: float
    worker_mib: float

    @property
    def seconds_per_thousand(self) -> float:
        """Seconds per thousand images."""
        return 1000 * self.seconds / self.images


@dataclass(frozen=True)
class ManifestBenchmarkRequest:
    """Number of images, the folder in which images and manifests are kept, files to decode, file of the result."""

    images: int
    work: Path
    files: Path | None = None
    json: Path | None = None


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `cxr benchmark manifest`."""
    parser.add_argument(
        "--images", type=number_of_images, default=20_000, help="number of images; 0: decoding only (default: 20000)"
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of images and manifests, which are kept")
    parser.add_argument("--files", type=Path, help="folder of PNG and JPEG files to decode (default: drawn images)")
    parser.add_argument("--json", type=Path, help="file for the result, with hardware and versions")


def number_of_images(text: str) -> int:
    """Return 0 or a number of images of which a quarter can be drawn; raise `ArgumentTypeError` for another one."""
    if not text.isdecimal() or 0 < int(text) < LEAST_IMAGES:
        raise argparse.ArgumentTypeError(f"expected 0, or at least {LEAST_IMAGES} images, not {text!r}")
    return int(text)


def run(request: ManifestBenchmarkRequest) -> int:
    """Print the rates of decoding, both builds and their ratios; return 0, or raise `ConfigError` if a build fails."""
    rates = _measure_decoding(request)
    builds = _measure_builds(request) if request.images else ()
    if request.json:
        decoding = asdict(rates) | {"ratios": rates.ratios}
        result = {"decoding": decoding, "builds": [asdict(build) for build in builds]}
        write_result(request.json, "manifest", result, opencv=cv2.__version__)
    return 0


def _measure_decoding(request: ManifestBenchmarkRequest) -> Rates:
    folder = request.files or request.work / "images-large"
    if request.files is None:
        draw(folder, LARGE_IMAGES, LARGE_SIDE)
    rates = measure_rates(folder, load_profile("quick").intake, request.work / "decoded", MOST_FILES)
    libraries = ", ".join(f"{container} by {library}" for container, library in sorted(rates.libraries.items()))
    print(
        f"{rates.files} files, images per second of one core: {rates.bare:.0f} decoded and resized alone ({libraries})"
    )
    for name, ratio in rates.ratios.items():
        print(f"{name.replace('_', ' '):>23}: {ratio * rates.bare:6.0f}, ratio {ratio:.2f}")
    print(f"two processes decode {rates.two_processes:.2f} times as fast as one")
    return rates


def _measure_builds(request: ManifestBenchmarkRequest) -> tuple[Build, Build]:
    """Print and return both builds."""
    counts = (request.images // QUARTER, request.images)
    for images in counts:
        draw(request.work / f"images-{images}", images)
    few, many = (measure(request.work, images) for images in counts)
    print(f"{os.cpu_count()} cores, drawn images of {SIDE} px")
    for build in (few, many):
        print(
            f"{build.images:7,} images: {build.seconds:6.1f} s, {build.seconds_per_thousand:5.2f} s per thousand, "
            f"driver {build.driver_mib:6.0f} MiB, largest other process {build.worker_mib:6.0f} MiB"
        )
    print(
        f"ratio: driver {many.driver_mib / few.driver_mib:.2f}, other process {many.worker_mib / few.worker_mib:.2f}, "
        f"seconds per thousand {many.seconds_per_thousand / few.seconds_per_thousand:.2f}"
    )
    return few, many


def draw(folder: Path, images: int, side: int = SIDE) -> None:
    """Draw a phantom collection of `images` images, unless it exists."""
    from cxr_platform.intake.phantoms.collection import write_collection

    write_collection(folder, images // len(CLASSES), seed=2020, size=side)


def measure(work: Path, images: int) -> Build:
    """Build the manifest of the drawn images in a process of its own, and watch its memory."""
    command = [sys.executable, "-m", "pipelines.manifest", "--profile", "quick"]
    places = ["--data", str(work / f"images-{images}"), "--out", str(work / f"manifest-{images}")]
    for earlier in work.glob(f"manifest-{images}*"):  # images in its cache would not be decoded again
        shutil.rmtree(earlier)
    started = time.monotonic()
    with subprocess.Popen([*command, *places], stdout=subprocess.DEVNULL) as process:
        peaks = watch(process)
    seconds = time.monotonic() - started
    if process.returncode:
        raise ConfigError("Expected the build to succeed.", received=f"exit code {process.returncode}")
    return Build(images, seconds, peaks.own_mib, peaks.largest_other_mib)

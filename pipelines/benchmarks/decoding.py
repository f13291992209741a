"""Measure how fast the workers of a manifest decode, against a bare loop that only decodes and resizes the same files.

The bare loop takes, for PNG and for JPEG, the faster of Pillow and OpenCV, both at a reduced size where JPEG allows it.
Images per second of one core are of processor time, in one process with one thread, the best of `ROUNDS` rounds in
turn. The gain by a second core is of wall time: one process for all files, and two for half of them each.
"""

import io
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
from PIL import Image

from cxr_platform.config import IntakeConfig
from cxr_platform.intake.images import read_image, sniff
from cxr_platform.intake.letterbox import content_box
from cxr_platform.manifest.decoding import DecodeTask

ROUNDS = 3
REDUCED = {
    1: cv2.IMREAD_GRAYSCALE,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}
Decode = Callable[[bytes, int], object]


@dataclass(frozen=True)
class Rates:
    """Images per second of processor time, and how much faster two processes are than one.

    `bare` decodes and resizes alone; `image` is `read_image`, which measures quality, too; `worker` adds hashes and the
    cache; `worker_with_keypoints` also what crops are found by. `libraries` are the faster ones.
    """

    files: int
    bare: float
    image: float
    worker: float
    worker_with_keypoints: float
    two_processes: float
    libraries: dict[str, str]

    @property
    def ratios(self) -> dict[str, float]:
        """Each rate over that of the bare loop."""
        rates = {"image": self.image, "worker": self.worker, "worker_with_keypoints": self.worker_with_keypoints}
        return {name: rate / self.bare for name, rate in rates.items()}


def measure_rates(folder: Path, config: IntakeConfig, cache: Path, most: int) -> Rates:
    """Measure the PNG and JPEG files below `folder`, at most `most` of them drawn at random; `cache` is a folder."""
    contents = _contents(folder, most)
    size = config.decoding.image_size
    cv2.setNumThreads(1)
    libraries = {container: _faster(held, size) for container, held in _by_container(contents).items()}
    tasks = {found: _task(config, cache, keypoints=found) for found in (False, True)}
    block = _block(list(contents))
    best = _best_seconds(
        {
            "bare": lambda: [libraries[str(sniff(data))](data, size) for data in contents.values()],
            "image": lambda: [read_image(data, config) for data in contents.values()],
            "worker": lambda: tasks[False](block),
            "keypoints": lambda: tasks[True](block),
        }
    )
    rates = {name: len(contents) / seconds for name, seconds in best.items()}
    return Rates(
        files=len(contents),
        bare=rates["bare"],
        image=rates["image"],
        worker=rates["worker"],
        worker_with_keypoints=rates["keypoints"],
        two_processes=_gain_by_two(tasks[True], list(contents)),
        libraries={container: decode.__name__ for container, decode in libraries.items()},
    )


def pillow(data: bytes, size: int) -> object:
    """Decode and resize with Pillow."""
    with Image.open(io.BytesIO(data)) as image:
        left, top, right, bottom = content_box(*image.size, size)
        image.draft("L", (right - left, bottom - top))
        return image.convert("L").resize((right - left, bottom - top), Image.Resampling.LANCZOS, reducing_gap=2.0)


def opencv(data: bytes, size: int) -> object:
    """Decode and resize with OpenCV; Pillow reads the size, from the header alone."""
    with Image.open(io.BytesIO(data)) as image:
        (width, height), jpeg = image.size, image.format == "JPEG"
    left, top, right, bottom = content_box(width, height, size)
    reduction = max(factor for factor in REDUCED if factor == 1 or (jpeg and factor * size <= max(width, height)))
    grey = cv2.imdecode(np.frombuffer(data, np.uint8), REDUCED[reduction])
    return cv2.resize(grey, (right - left, bottom - top), interpolation=cv2.INTER_AREA)


def _faster(contents: Sequence[bytes], size: int) -> Decode:
    ways: tuple[Decode, Decode] = (pillow, opencv)
    return min(ways, key=lambda decode: _seconds(lambda: [decode(data, size) for data in contents]))


def _contents(folder: Path, most: int) -> dict[Path, bytes]:
    found = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    contents: dict[Path, bytes] = {}
    for number in np.random.default_rng(0).permutation(len(found)).tolist():
        data = found[number].read_bytes()
        if sniff(data) in ("PNG", "JPEG") and len(contents) < most:
            contents[found[number]] = data
    return contents


def _by_container(contents: dict[Path, bytes]) -> dict[str, list[bytes]]:
    held: dict[str, list[bytes]] = {}
    for data in contents.values():
        held.setdefault(str(sniff(data)), []).append(data)
    return held


def _task(config: IntakeConfig, cache: Path, keypoints: bool) -> DecodeTask:
    cache.mkdir(parents=True, exist_ok=True)
    return DecodeTask(replace(config, selection=replace(config.selection, find_crops=keypoints)), "salt", cache)


def _block(files: Sequence[Path]) -> pa.Table:
    rows = [
        {
            "path": os.fsencode(file),
            "source": "s",
            "source_path": f"s/{file}",
            "size": file.stat().st_size,
            "mtime_ns": 0,
        }
        for file in files
    ]
    return pa.Table.from_pylist(rows)


def _best_seconds(ways: dict[str, Callable[[], object]]) -> dict[str, float]:
    rounds = [{name: _seconds(way) for name, way in ways.items()} for _ in range(ROUNDS)]
    return {name: min(seconds[name] for seconds in rounds) for name in ways}


def _seconds(way: Callable[[], object]) -> float:
    started = time.process_time()
    way()
    return time.process_time() - started


def _gain_by_two(task: DecodeTask, files: Sequence[Path]) -> float:
    """Return how much faster two processes decode than one; each is started before, and has one thread."""
    halves = [files[::2], files[1::2]]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for started in [pool.submit(_decode, task, half) for half in (*halves, *halves)]:
            started.result()  # imports
        walls: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(ROUNDS):
            for processes, parts in ((1, [files]), (2, halves)):
                began = time.monotonic()
                for running in [pool.submit(_decode, task, part) for part in parts]:
                    running.result()
                walls[processes].append(time.monotonic() - began)
    return min(walls[1]) / min(walls[2])


def _decode(task: DecodeTask, files: Sequence[Path]) -> None:
    cv2.setNumThreads(1)
    task(_block(files))

"""Small collections, and what the parts of a manifest's build take, made without Ray."""

import csv
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from cxr_platform.config import Profile, load_profile
from cxr_platform.intake.candidate import Candidate, Refusal
from cxr_platform.intake.data_folders import DataPaths, merged, read_data_folders
from cxr_platform.intake.images import read_image
from cxr_platform.labels import CLASSES
from cxr_platform.manifest.cache import DecodedCache, settings_key, write_shard
from cxr_platform.manifest.decoding import DecodeTask
from cxr_platform.manifest.folders import ManifestFolders
from cxr_platform.manifest.patient_ids import patient_salt
from cxr_platform.manifest.records import Decoded, FileKey, image_facts
from tests.intake.files import png, thorax

PER_CLASS = 4
Pixels = NDArray[np.uint8]


def image(number: int, size: int = 200) -> Pixels:
    """A thorax whose fine structure is its own."""
    noise = np.random.default_rng(number).normal(size=(size, size))
    structure = gaussian_filter(noise, 2)
    return np.clip(thorax(size) + 25 * structure / structure.std(), 0, 255).astype(np.uint8)


def brighter_copy(pixels: Pixels) -> Pixels:
    return np.clip(pixels * 0.8 + 30, 0, 255).astype(np.uint8)


def write_collection(data: Path) -> Path:
    """Class folders with four images per class, some that must be excluded, and a Cohen-like table with patients."""
    for number, label in enumerate(CLASSES):
        for i in range(PER_CLASS):
            save(image(10 * number + i), data / "classes" / label / f"image-{i}.png")
    normal = data / "classes" / "Normal"
    first = image(10 * CLASSES.index("Normal"))
    save(first, normal / "same-pixels.bmp.png", compress_level=1)
    save(brighter_copy(first), normal / "brighter.png")
    save(image(900) // 12 + 100, normal / "flat.png")
    (normal / "text.png").write_text("not an image\n")
    for label in ("Edema", "Fibrosis"):
        save(image(901), data / "classes" / label / "both.png")
    _write_cohen(data / "cohen")
    return data


def _write_cohen(folder: Path) -> None:
    rows = [("p1", "COVID-19", "PA", "a.png"), ("p1", "COVID-19", "AP", "b.png"), ("p2", "COVID-19", "L", "c.png")]
    for number, (*_, name) in enumerate(rows):
        save(image(800 + number), folder / "images" / name)
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["patientid", "finding", "view", "filename", "modality", "folder", "sex", "age"])
        writer.writerows([*row, "X-ray", "images", "F", "61"] for row in rows)


def save(pixels: Pixels, file: Path, **options: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, "PNG", **options)
    return file


def profile(**overrides: Any) -> Profile:
    return load_profile("quick", {"folds": 2, **overrides})


def fill_cache(data: DataPaths, destination: Path, settings: Profile, outside: Sequence[str] = ()) -> None:
    """Decode in this process what `build_manifest` would give to Ray."""
    candidates = merged(read_data_folders(data, settings.intake.selection, outside)).candidates
    cache = DecodedCache(ManifestFolders(destination.absolute()).cache, settings_key(settings.intake, patient_salt()))
    rows = [_row(candidate) for candidate in candidates]
    DecodeTask(settings.intake, patient_salt(), cache.folder)(pa.Table.from_pylist(rows))


def _row(candidate: Candidate) -> dict[str, Any]:
    status = candidate.path.stat()
    return {
        "path": os.fsencode(candidate.path),
        "source": candidate.source,
        "source_path": candidate.source_path,
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
    }


def decoded(source_path: str, pixels: Pixels, row: int = 0, shard: str = "") -> Decoded:
    """The record of an image with these pixels."""
    data = png(pixels)
    facts = image_facts(read_image(data, profile().intake), data, None, None)
    return Decoded(FileKey(source_path, len(data), 0), facts, None, "", shard, row)


def refused(source_path: str, reason: str = "not-an-image") -> Decoded:
    return Decoded(FileKey(source_path, 1, 0), None, reason, "no image")


def store(cache: DecodedCache, images: dict[str, Pixels]) -> list[Decoded]:
    """Put images into one shard of the cache; their records."""
    records = [decoded(source_path, pixels, row) for row, (source_path, pixels) in enumerate(images.items())]
    shard = write_shard(cache.folder, records, np.stack(list(images.values())))
    return [record._replace(shard=shard) for record in records]


def candidate(source_path: str, label: str | None = "Normal", **stated: Any) -> Candidate:
    source = source_path.split("/")[0]
    return Candidate(source, stated.pop("path", Path("/data") / source_path), source_path, label, **stated)


def listed(source_path: str, reason: str) -> Candidate:
    """A candidate that its collection's table already excludes."""
    return replace(candidate(source_path, None), refusal=Refusal(reason, "excluded by the table"))

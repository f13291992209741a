"""The cache of decoded images beside a manifest: a second build decodes only files that are new or have changed.

Each decoding task writes one Parquet shard, atomically, into a folder named by a hash of all that decoding depends on.
"""

import hashlib
import io
import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from importlib import resources
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from cxr_platform.config import IntakeConfig
from cxr_platform.errors import StorageError
from cxr_platform.intake.keypoints import Keypoints
from cxr_platform.manifest.folders import is_cache_key
from cxr_platform.manifest.records import RECORD_SCHEMA, Decoded, FileKey, records_from_table, records_to_table
from cxr_platform.manifest.schema import PIXELS, pixels_to_arrow, pixels_to_numpy
from cxr_platform.storage.arrow_files import arrow_source, is_damage
from cxr_platform.storage.files import (
    cannot_read,
    children,
    make_folder,
    matching_files,
    remove_unneeded,
    write_atomically,
)
from cxr_platform.storage.retry import store_errors, with_retries

DECODING_PACKAGES = (
    *("imagehash", "numpy", "opencv-python-headless", "pillow", "pydicom", "pylibjpeg-openjpeg", "pyjpegls"),
    *("python-gdcm", "scipy", "tensorflow-io"),
)
DECODING_MODULES = (
    *("candidate", "codestream", "dicom", "dicom_grey", "dicom_header", "dicom_pixels", "dicom_source", "duplicates"),
    *("eligibility", "grey_image", "images", "jpeg2000", "keypoints", "letterbox", "quality", "raster", "vocabulary"),
)
"""Modules of `intake` on which pixels and measures depend: with any change of them everything is decoded again."""

KEYPOINTS = "keypoints"
"""Column of a shard: `Keypoints.to_bytes` of each image, null where none were sought."""
SHARDS_IN_MEMORY = 4


def settings_key(config: IntakeConfig, salt: str) -> str:
    """Return the name of the cache folder: a hash of settings, salt, library versions and the source of `intake`.

    Of `config` the decoding counts, and whether keypoints are stored (`find_crops`).
    """
    state: list[Any] = [sources_hash(Path(str(resources.files("cxr_platform.intake"))))]
    state += [package_versions(DECODING_PACKAGES), str(RECORD_SCHEMA), asdict(config.decoding)]
    settings = json.dumps([*state, config.selection.find_crops, salt], sort_keys=True)
    return hashlib.sha256(settings.encode()).hexdigest()[:16]


def sources_hash(intake: Path) -> str:
    """Return the SHA-256, in hex, of the source of `DECODING_MODULES` in the package folder `intake`."""
    digest = hashlib.sha256()
    for module in DECODING_MODULES:
        digest.update(hashlib.sha256((intake / f"{module}.py").read_bytes()).digest())
    return digest.hexdigest()


def package_versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the version of each distribution, or `not installed`."""

    def installed(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "not installed"

    return {name: installed(name) for name in packages}


def write_shard(
    folder: Path,
    records: list[Decoded],
    pixels: npt.NDArray[np.uint8],
    keypoints: Sequence[Keypoints | None] | None = None,
) -> str:
    """Store the records, pixels, uint8 (N, S, S), and keypoints of one task, and return the name of the shard.

    The same files give the same name; a refused file has black pixels. Raises `StorageError` if `folder` cannot be
    written.
    """
    name = hashlib.sha256(repr([r.key for r in records]).encode()).hexdigest()[:24] + ".parquet"
    table = records_to_table(records).append_column(PIXELS, pixels_to_arrow(pixels))
    found = [None if image is None else image.to_bytes() for image in keypoints or [None] * len(records)]
    table = table.append_column(KEYPOINTS, pa.array(found, pa.binary()))
    shard = io.BytesIO()
    pq.write_table(table, shard, compression="zstd")
    with_retries(folder, lambda: write_atomically(folder / name, shard.getvalue()))
    return name


class DecodedCache:
    """The folder of shards for one `settings_key`."""

    def __init__(self, root: Path, key: str) -> None:
        self.folder = root / key
        self._root = root
        make_folder(self.folder)

    def load(self) -> dict[FileKey, Decoded]:
        """Return every stored record by file. A damaged shard is removed, so that its files are decoded again.

        Files that could not be opened are left out, to be tried again: permissions change without a change of size and
        time. Raises `StorageError` if a shard cannot be read.
        """
        records = (record for shard in matching_files(self.folder, "*.parquet") for record in self._read(shard))
        return {record.key: record for record in records if record.reason != "unreadable"}

    def prune(self, used: Iterable[Decoded]) -> None:
        """Remove the shards that hold none of `used`, partly written ones, and the folders of other settings."""
        kept = {record.shard for record in used}
        for file in children(self.folder):
            if file.name not in kept:
                remove_unneeded(file)
        for other in children(self._root):
            if other.is_dir() and other != self.folder and is_cache_key(other.name):
                remove_unneeded(other)

    def _read(self, shard: Path) -> Iterator[Decoded]:
        try:
            table = pq.read_table(arrow_source(shard), columns=RECORD_SCHEMA.names)
        except (pa.ArrowException, *store_errors()) as error:
            if not is_damage(error):
                raise cannot_read(shard, error) from error
            shard.unlink()
            return iter(())
        return records_from_table(table, shard.name)


class PixelReader:
    """Reads images and keypoints from the shards, with at most `SHARDS_IN_MEMORY` columns of shards in memory."""

    def __init__(self, cache: DecodedCache, image_size: int) -> None:
        self._cache = cache
        self.size = image_size
        self._open: OrderedDict[tuple[str, str], Any] = OrderedDict()

    def images(self, records: list[Decoded]) -> npt.NDArray[np.uint8]:
        """Return uint8 (N, S, S), in the order of `records`; each shard is opened once."""
        images = np.empty((len(records), self.size, self.size), np.uint8)
        for position in sorted(range(len(records)), key=lambda i: (records[i].shard, records[i].row)):
            images[position] = self._column(records[position].shard, PIXELS)[records[position].row]
        return images

    def keypoints(self, record: Decoded) -> bytes | None:
        """Return the stored keypoints of an image (`Keypoints.to_bytes`), `None` if none were sought."""
        stored: bytes | None = self._column(record.shard, KEYPOINTS)[record.row].as_py()
        return stored

    def _column(self, shard: str, name: str) -> Any:
        if (shard, name) not in self._open:
            column = self._read(self._cache.folder / shard, name)
            self._open[shard, name] = pixels_to_numpy(column) if name == PIXELS else column
            if len(self._open) > SHARDS_IN_MEMORY:
                self._open.popitem(last=False)
        self._open.move_to_end((shard, name))
        return self._open[shard, name]

    def _read(self, shard: Path, column: str) -> pa.ChunkedArray:
        try:
            return pq.read_table(arrow_source(shard), columns=[column])[column]
        except (OSError, pa.ArrowException) as error:
            raise StorageError(
                f"Expected decoded images in {shard}.",
                received=error,
                advice=f"Remove {shard.parent.parent}; everything is then decoded again.",
            ) from error

"""Decoded images kept beside the manifest, so that a second build decodes only files that are new or have changed.

One Parquet shard a decoding task, in a folder named by a hash of the settings that decoding depends on. A shard is
written whole under another name and renamed, so that an interrupted build leaves only complete ones behind.
"""

import hashlib
import io
import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from cxr_platform.config import DecodingConfig
from cxr_platform.errors import StorageError
from cxr_platform.manifest.place import is_cache_key
from cxr_platform.manifest.records import RECORD_SCHEMA, Decoded, FileKey, from_table, to_table
from cxr_platform.manifest.schema import PIXELS, pixels_to_arrow, pixels_to_numpy
from cxr_platform.manifest.versions import package_versions
from cxr_platform.storage.files import (
    arrow_source,
    cannot_read,
    children,
    make_folder,
    remove,
    store_errors,
    write_atomically,
)

DECODING_PACKAGES = ("imagehash", "numpy", "pillow", "pydicom", "scipy", "tensorflow-io")
DECODING_MODULES = (
    *("candidate", "codestream", "dicom", "dicom_pixels", "duplicates", "eligibility", "grey_image", "images"),
    *("letterbox", "quality", "raster", "vocabulary"),
)
"""Modules of `intake` on which pixels and measures depend: with any change of them everything is decoded again."""

SHARDS_IN_MEMORY = 4


def settings_key(decoding: DecodingConfig, salt: str) -> str:
    """The name of the cache folder for these settings."""
    state = [sources_hash(Path(str(resources.files("cxr_platform.intake")))), package_versions(DECODING_PACKAGES)]
    settings = json.dumps([*state, str(RECORD_SCHEMA), asdict(decoding), salt], sort_keys=True)
    return hashlib.sha256(settings.encode()).hexdigest()[:16]


def sources_hash(intake: Path) -> str:
    """SHA-256, in hex, over the source text of `DECODING_MODULES` in the package folder `intake`."""
    digest = hashlib.sha256()
    for module in DECODING_MODULES:
        digest.update(hashlib.sha256((intake / f"{module}.py").read_bytes()).digest())
    return digest.hexdigest()


def write_shard(folder: Path, records: list[Decoded], pixels: npt.NDArray[np.uint8]) -> str:
    """Store one task's outcome; a refused file has a black image. Returns the name, the same for the same files.

    Raises `StorageError` for a folder that cannot be written.
    """
    name = hashlib.sha256(repr([r.key for r in records]).encode()).hexdigest()[:24] + ".parquet"
    table = to_table(records).append_column(PIXELS, pixels_to_arrow(pixels))
    shard = io.BytesIO()
    pq.write_table(table, shard, compression="zstd")
    write_atomically(folder / name, shard.getvalue())
    return name


class DecodedCache:
    """The shards of one folder, and the records in them by file."""

    def __init__(self, root: Path, key: str) -> None:
        self.folder = root / key
        self._root = root
        make_folder(self.folder)

    def load(self) -> dict[FileKey, Decoded]:
        """Every stored record that still holds. A damaged shard is removed, and its files decoded again.

        A file that could not be opened is tried anew: permissions change without a trace in size and time. Raises
        `StorageError` for a shard that is out of reach.
        """
        records = (record for shard in self._shards() for record in self._read(shard))
        return {record.key: record for record in records if record.reason != "unreadable"}

    def prune(self, used: Iterable[Decoded]) -> None:
        """Remove the shards in which nothing is used any more, half-written ones, and those of other settings."""
        kept = {record.shard for record in used}
        for file in children(self.folder):
            if file.name not in kept:
                file.unlink()
        for other in children(self._root):
            if other.is_dir() and other != self.folder and is_cache_key(other.name):
                remove(other)

    def _shards(self) -> list[Path]:
        return sorted(self.folder.glob("*.parquet"))

    def _read(self, shard: Path) -> Iterator[Decoded]:
        try:
            table = pq.read_table(arrow_source(shard), columns=RECORD_SCHEMA.names)
        except (pa.ArrowException, *store_errors()) as error:
            if not _is_damage(error):
                raise cannot_read(shard, error) from error
            shard.unlink()
            return iter(())
        return from_table(table, shard.name)


def _is_damage(error: Exception) -> bool:
    """Whether the shard is truncated or another program's, and not just out of reach for the moment.

    pyarrow says some of the former with an `OSError` of no number; those of file systems and stores have one, or are of
    a kind of their own.
    """
    return isinstance(error, pa.ArrowException) or (type(error) is OSError and error.errno is None)


class PixelReader:
    """Images out of the shards, a few shards in memory at a time."""

    def __init__(self, cache: DecodedCache, image_size: int) -> None:
        self._cache = cache
        self._size = image_size
        self._open: OrderedDict[str, npt.NDArray[np.uint8]] = OrderedDict()

    def images(self, records: list[Decoded]) -> npt.NDArray[np.uint8]:
        """uint8 (N, S, S), in the order of `records`; each shard is opened once."""
        images = np.empty((len(records), self._size, self._size), np.uint8)
        for position in sorted(range(len(records)), key=lambda i: (records[i].shard, records[i].row)):
            images[position] = self._shard(records[position].shard)[records[position].row]
        return images

    def _shard(self, name: str) -> npt.NDArray[np.uint8]:
        if name not in self._open:
            self._open[name] = self._read(self._cache.folder / name)
            if len(self._open) > SHARDS_IN_MEMORY:
                self._open.popitem(last=False)
        self._open.move_to_end(name)
        return self._open[name]

    def _read(self, shard: Path) -> npt.NDArray[np.uint8]:
        try:
            return pixels_to_numpy(pq.read_table(arrow_source(shard), columns=[PIXELS])[PIXELS])
        except (OSError, pa.ArrowException) as error:
            raise StorageError(
                f"Expected decoded images in {shard}.",
                received=error,
                advice=f"Remove {shard.parent.parent}; everything is then decoded again.",
            ) from error

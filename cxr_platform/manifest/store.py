"""Reading and writing the files of a manifest. All input and output of the manifest's own files is here.

DEST/images/part-00000.parquet …   one row an image, in the order of source_path
DEST/excluded.parquet             one row for every other file, with reason and detail
DEST/manifest.json                schema version, content hash, counts, seed, configuration
DEST/validation/                  what Great Expectations found
DEST/contact_sheets/              one picture a reason of exclusion
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from cxr_platform.errors import ManifestError
from cxr_platform.manifest.place import INFO_FILE, place_of
from cxr_platform.manifest.schema import (
    EXCLUDED_SCHEMA,
    PIXELS,
    SCHEMA_VERSION,
    manifest_schema,
    pixels_to_arrow,
    pixels_to_numpy,
)
from cxr_platform.storage.files import arrow_source, read_errors

IMAGES_FOLDER = "images"
EXCLUDED_FILE = "excluded.parquet"
ROWS_A_FILE = 1024
ROWS_A_GROUP = 128  # 5 MB of images: what is in memory while a manifest is read batch by batch
SIGNIFICANT_DIGITS = 6  # of the floats in the content hash: sums differ in the last digits between processors
HOW_TO_BUILD = "Build one with `make manifest DATA=folder`, or `python -m pipelines.manifest`."

PixelSource = Callable[[int, int], npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class Manifest:
    """A manifest on disk. `info` is its manifest.json."""

    folder: Path
    info: dict[str, Any]

    @property
    def content_hash(self) -> str:
        """SHA-256 over the values of all rows, the same wherever and whenever the same images were built."""
        return str(self.info["content_hash"])

    @cached_property
    def files(self) -> list[Path]:
        """The Parquet files, in the order of the rows."""
        return sorted((self.folder / IMAGES_FOLDER).glob("part-*.parquet"))

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """These columns for all images; without `columns` all of them but the pixels."""
        wanted = [name for name in self.schema.names if name != PIXELS] if columns is None else list(columns)
        unknown = [name for name in wanted if name not in self.schema.names]
        if unknown:
            raise ManifestError(
                f"Expected columns of the manifest: {', '.join(self.schema.names)}.", received=", ".join(unknown)
            )
        return pa.concat_tables(pq.read_table(arrow_source(file), columns=wanted) for file in self.files)

    def pixels(self) -> npt.NDArray[np.uint8]:
        """All images, uint8 (N, S, S), in the order of `table`: 40 kB an image at 200 × 200."""
        return np.concatenate([pixels_to_numpy(batch[PIXELS]) for batch in self.batches([PIXELS])])

    def batches(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """These columns, in order, some `ROWS_A_GROUP` rows at a time."""
        for file in self.files:
            for batch in pq.ParquetFile(arrow_source(file)).iter_batches(ROWS_A_GROUP, columns=list(columns)):
                yield pa.Table.from_batches([batch])

    def excluded(self) -> pa.Table:
        """source_path, reason and detail of every file that was looked at and not taken."""
        return pq.read_table(arrow_source(self.folder / EXCLUDED_FILE))

    @cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema as it is stored."""
        return pq.read_schema(arrow_source(self.files[0])).remove_metadata()


def open_manifest(folder: Path) -> Manifest:
    """The manifest in `folder`; raises `ManifestError` for none, a broken one, or one of another schema version.

    `StorageError` for a store that does not answer.
    """
    folder = place_of(folder).readable()
    try:
        manifest = Manifest(folder, _read_info(folder / INFO_FILE))
    except (FileNotFoundError, NotADirectoryError):
        raise ManifestError(
            f"Expected a manifest in {folder}.",
            received="a folder without manifest.json" if folder.is_dir() else "no such folder",
            advice=HOW_TO_BUILD,
        ) from None
    _check(manifest)
    return manifest


def write_images(folder: Path, rows: pa.Table, pixels: PixelSource, image_size: int) -> None:
    """Write the rows with their images. `pixels(start, stop)` gives uint8 (stop - start, S, S); called in order."""
    schema = manifest_schema(image_size)
    (folder / IMAGES_FOLDER).mkdir()
    for number, start in enumerate(range(0, max(len(rows), 1), ROWS_A_FILE)):
        part = rows.slice(start, ROWS_A_FILE)
        images = pixels_to_arrow(pixels(start, start + len(part)))
        table = part.add_column(schema.get_field_index(PIXELS), PIXELS, images).cast(schema)
        file = folder / IMAGES_FOLDER / f"part-{number:05d}.parquet"
        pq.write_table(table, file, compression="zstd", row_group_size=ROWS_A_GROUP)


def write_excluded(folder: Path, rows: Sequence[tuple[str, str, str]]) -> None:
    """Write excluded.parquet: source_path, reason, detail; sorted by source_path."""
    columns = zip(*sorted(rows), strict=True) if rows else [[], [], []]
    table = pa.table([pa.array(column, pa.string()) for column in columns], schema=EXCLUDED_SCHEMA)
    pq.write_table(table, folder / EXCLUDED_FILE)


def write_info(folder: Path, info: dict[str, Any]) -> None:
    """Write manifest.json."""
    text = json.dumps(info, indent=2, ensure_ascii=False) + "\n"
    (folder / INFO_FILE).write_text(text, encoding="utf-8")


def content_hash(rows: pa.Table) -> str:
    """SHA-256 over the values of the rows, in the order of image_id; pixels are represented by their own hash.

    Of values, not of files: Parquet bytes change with the library's version.
    """
    digest = hashlib.sha256()
    for row in rows.sort_by("image_id").to_pylist():
        values = [f"{v:.{SIGNIFICANT_DIGITS}g}" if isinstance(v, float) else v for v in row.values()]
        digest.update(json.dumps(values, ensure_ascii=True).encode())
    return digest.hexdigest()


def _read_info(file: Path) -> dict[str, Any]:
    try:
        with read_errors(file, remote_only=True):
            content = file.read_bytes()
        return dict(json.loads(content))
    except (FileNotFoundError, NotADirectoryError):
        raise
    except (OSError, ValueError, TypeError) as error:
        raise ManifestError(f"Expected JSON in {file}.", received=error, advice=HOW_TO_BUILD) from error


def _check(manifest: Manifest) -> None:
    version = manifest.info.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ManifestError(
            f"{manifest.folder}: expected a manifest of schema version {SCHEMA_VERSION}.",
            received=version,
            advice=f"Another version of this software wrote it. {HOW_TO_BUILD}",
        )
    try:
        found = sum(pq.read_metadata(arrow_source(file)).num_rows for file in manifest.files)
    except (OSError, pa.ArrowException) as error:
        raise _broken(manifest, error) from error
    if found != manifest.info.get("images") or not manifest.files:
        raise _broken(manifest, f"{found} rows")


def _broken(manifest: Manifest, received: object) -> ManifestError:
    return ManifestError(
        f"{manifest.folder}: expected Parquet files with {manifest.info.get('images')} rows.",
        received=received,
        advice=HOW_TO_BUILD,
    )

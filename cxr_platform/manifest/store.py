"""Reading and writing the files of a manifest.

DEST/images/part-00000.parquet …  one row per image, in the order of source_path
DEST/excluded.parquet             one row per other file, with reason and detail
DEST/manifest.json                `schema.ManifestInfo`: version, content hash, counts, seed, configuration
DEST/croissant.json               the same for dataset tools, if asked for (`croissant`)
DEST/validation/                  results of Great Expectations
DEST/contact_sheets/              one picture per reason of exclusion
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from cxr_platform.errors import ManifestError
from cxr_platform.intake.letterbox import resize_images
from cxr_platform.manifest.folders import INFO_FILE, manifest_folders
from cxr_platform.manifest.schema import (
    EXCLUDED_SCHEMA,
    PIXELS,
    ManifestInfo,
    manifest_schema,
    pixels_to_arrow,
    pixels_to_numpy,
)
from cxr_platform.storage.arrow_files import arrow_source, is_damage
from cxr_platform.storage.files import cannot_read, matching_files, read_errors
from cxr_platform.storage.paths import absolute
from cxr_platform.storage.retry import with_retries
from cxr_platform.validation import parse_record

IMAGES_FOLDER = "images"
EXCLUDED_FILE = "excluded.parquet"
ROWS_PER_FILE = 1024
ROWS_PER_GROUP = 128  # 5 MB of images: memory of a manifest that is read batch by batch
HOW_TO_BUILD = "Build one with `make manifest DATA=folder`, or `python -m pipelines.manifest`."

PixelSource = Callable[[int, int], npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class Manifest:
    """A manifest on disk. `info` is its manifest.json.

    What reads its files raises `ManifestError` for a damaged one, `StorageError` for one that cannot be read.
    """

    folder: Path
    info: ManifestInfo

    def absolute(self) -> "Manifest":
        """Return this manifest for processes with another working directory, such as Ray's workers."""
        return Manifest(absolute(self.folder), self.info)

    @property
    def content_hash(self) -> str:
        """SHA-256 of the values of all rows: the same for the same images, on every machine."""
        return self.info.content_hash

    @property
    def image_size(self) -> int:
        """Width and height of an image in pixels."""
        size: int = self.schema.field(PIXELS).type.shape[0]
        return size

    @cached_property
    def files(self) -> list[Path]:
        """The Parquet files, in the order of the rows."""
        return matching_files(self.folder / IMAGES_FOLDER, "part-*.parquet")

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return these columns, by default all but the pixels; raise `ManifestError` for an unknown one."""
        wanted = [name for name in self.schema.names if name != PIXELS] if columns is None else list(columns)
        unknown = [name for name in wanted if name not in self.schema.names]
        if unknown:
            raise ManifestError(
                f"Expected columns of the manifest: {', '.join(self.schema.names)}.", received=", ".join(unknown)
            )
        return pa.concat_tables(self._table(file, wanted) for file in self.files)

    def pixels(self, rows: npt.NDArray[np.bool_] | None = None, side: int | None = None) -> npt.NDArray[np.uint8]:
        """Return all images, or those at the True places of `rows`, uint8 (n, S, S), in the order of `table`.

        They have 40 kB per image at 200 × 200, or `side` × `side` pixels; larger ones are in memory one row group at a
        time.
        """
        size = self.image_size if side is None else side
        count = self.rows() if rows is None else rows.sum()
        images, written = np.empty((count, size, size), np.uint8), 0
        for batch in self.pixel_batches(rows, size):
            images[written : written + len(batch)] = batch
            written += len(batch)
        return images

    def rows(self) -> int:
        """Return the number of rows of the Parquet files."""
        count = 0
        for file in self.files:
            with self._reading(file):
                count += pq.read_metadata(arrow_source(file)).num_rows
        return count

    def pixel_batches(
        self, rows: npt.NDArray[np.bool_] | None, side: int | None = None
    ) -> Iterator[npt.NDArray[np.uint8]]:
        """Yield what `pixels` returns, one row group at a time; of some of them, no image."""
        read = 0
        for batch in self.batches([PIXELS]):
            pixels = pixels_to_numpy(batch[PIXELS])
            shown = pixels if rows is None else pixels[rows[read : read + len(batch)]]
            yield shown if side is None else resize_images(shown, side)
            read += len(batch)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield these columns, in order, at most `ROWS_PER_GROUP` rows at a time."""
        for file in self.files:
            with self._reading(file):
                for batch in pq.ParquetFile(arrow_source(file)).iter_batches(ROWS_PER_GROUP, columns=list(columns)):
                    yield pa.Table.from_batches([batch])

    def excluded(self) -> pa.Table:
        """Return source_path, reason and detail of every excluded file."""
        return self._table(self.folder / EXCLUDED_FILE, None)

    def known_patients(self) -> dict[str, int]:
        """Return source → number of images in folds whose patient is known."""
        table = self.table(["source", "role", "patient_id"])
        rows = [row for row in table.to_pylist() if row["role"] == "study"]
        known = Counter(row["source"] for row in rows if row["patient_id"])
        return {source: known[source] for source in sorted({row["source"] for row in rows})}

    @cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema as it is stored."""
        with self._reading(self.files[0]):
            return pq.read_schema(arrow_source(self.files[0])).remove_metadata()

    def _table(self, file: Path, columns: list[str] | None) -> pa.Table:
        with self._reading(file):
            return pq.read_table(arrow_source(file), columns=columns)

    @contextmanager
    def _reading(self, file: Path) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            if is_damage(error):
                raise _damaged(self, f"{file.name}: {error}") from error
            raise cannot_read(file, getattr(error, "strerror", None) or error) from error


def open_manifest(folder: Path) -> Manifest:
    """Open the manifest in `folder`.

    Raises `ManifestError` if there is none, or it is damaged or of another schema version, `StorageError` if it cannot
    be read.
    """
    folder = manifest_folders(folder).readable()
    try:
        manifest = Manifest(folder, _read_info(folder / INFO_FILE))
    except (FileNotFoundError, NotADirectoryError):
        raise ManifestError(
            f"Expected a manifest in {folder}.",
            received="a folder without manifest.json" if folder.is_dir() else "no such folder",
            advice=HOW_TO_BUILD,
        ) from None
    rows = manifest.rows()
    if rows != manifest.info.images or not manifest.files:
        raise _damaged(manifest, f"{rows} rows")
    return manifest


def write_images(folder: Path, rows: pa.Table, pixels: PixelSource, image_size: int) -> None:
    """Write the rows with their images. `pixels(start, stop)` returns uint8 (stop - start, S, S); called in order."""
    schema = manifest_schema(image_size)
    (folder / IMAGES_FOLDER).mkdir()
    for number, start in enumerate(range(0, max(len(rows), 1), ROWS_PER_FILE)):
        part = rows.slice(start, ROWS_PER_FILE)
        images = pixels_to_arrow(pixels(start, start + len(part)))
        table = part.add_column(schema.get_field_index(PIXELS), PIXELS, images).cast(schema)
        file = folder / IMAGES_FOLDER / f"part-{number:05d}.parquet"
        pq.write_table(table, file, compression="zstd", row_group_size=ROWS_PER_GROUP)


def write_excluded(folder: Path, rows: Sequence[tuple[str, str, str]]) -> None:
    """Write excluded.parquet: source_path, reason, detail; sorted by source_path."""
    columns = zip(*sorted(rows), strict=True) if rows else [[], [], []]
    table = pa.table([pa.array(column, pa.string()) for column in columns], schema=EXCLUDED_SCHEMA)
    pq.write_table(table, folder / EXCLUDED_FILE)


def write_info(folder: Path, info: ManifestInfo) -> None:
    """Write manifest.json."""
    (folder / INFO_FILE).write_bytes(info.to_json())


def _read_info(file: Path) -> ManifestInfo:
    try:
        with read_errors(file, remote_only=True):
            content = with_retries(file, file.read_bytes)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise ManifestError(f"Expected JSON in {file}.", received=error, advice=HOW_TO_BUILD) from error
    return parse_record(ManifestInfo, content, str(file), ManifestError, HOW_TO_BUILD)


def _damaged(manifest: Manifest, received: object) -> ManifestError:
    return ManifestError(
        f"{manifest.folder}: expected Parquet files with {manifest.info.images} rows.",
        received=received,
        advice=HOW_TO_BUILD,
    )

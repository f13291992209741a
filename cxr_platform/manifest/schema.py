"""The schema of a manifest: the columns of its Parquet files (one row per image), and `ManifestInfo`, manifest.json."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from cxr_platform.config import IntakeConfig
from cxr_platform.labels import CLASSES
from cxr_platform.validation import Record

PIXELS = "pixels"
OPTIONAL = ("reader_label", "reader_finding")
SIGNIFICANT_DIGITS = 6  # of the floats in the content hash: sums differ in the last digits between processors


def manifest_schema(image_size: int) -> pa.Schema:
    """Return the schema of a manifest whose images are `image_size` × `image_size` uint8, 0 black to 255 white."""

    def required(name: str, kind: Any) -> pa.Field:
        return pa.field(name, kind, nullable=False)

    return pa.schema(
        [
            required("image_id", pa.string()),  # 16 hex digits of the hash of source_path
            required("source", pa.string()),
            required("role", pa.string()),  # study | external | contrast | outside
            required("source_path", pa.string()),  # SOURCE/relative/path, POSIX
            required("file_sha256", pa.string()),
            required("pixel_sha256", pa.string()),  # of the letterboxed pixels, row by row
            required("phash", pa.string()),  # 16 hex digits
            pa.field("label", pa.string()),  # null for a contrast and an outside image
            required("finding", pa.string()),  # in the words of the collection
            pa.field("patient_id", pa.string()),  # salted hash, equal in sources of one origin; null if not known
            required("group_id", pa.string()),  # image_id of the group's first image
            pa.field("view", pa.string()),
            pa.field("age", pa.float32()),  # years
            pa.field("sex", pa.string()),  # M | F
            required("width", pa.int32()),  # pixels, as stored in the file
            required("height", pa.int32()),
            required("bit_depth", pa.int32()),
            required("color_mode", pa.string()),
            required("padding_fraction", pa.float32()),  # share of the letterbox that is padding
            required("mean", pa.float32()),  # grey 0 to 1, padding excluded
            required("std", pa.float32()),
            required(PIXELS, pixel_type(image_size)),
            required("fold_paper", pa.int32()),  # 0 … folds-1; -1 for an external image
            required("fold_grouped", pa.int32()),
            pa.field("reader_label", pa.string()),  # class by readers, if a second table gives one, or "undecided"
            pa.field("reader_finding", pa.string()),  # in the words of that table; null where it has no row
        ]
    )


def pixel_type(image_size: int) -> pa.FixedShapeTensorType:
    """Return Arrow's canonical fixed_shape_tensor, which Ray Data, pandas and NumPy read without this package."""
    return pa.fixed_shape_tensor(pa.uint8(), [image_size, image_size])


def without_pixels(schema: pa.Schema) -> pa.Schema:
    """Return the columns that are small enough to be held for all images at once."""
    return schema.remove(schema.get_field_index(PIXELS))


def pixels_to_arrow(pixels: npt.NDArray[np.uint8]) -> pa.FixedShapeTensorArray:
    """Return uint8 (N, S, S) as a column; N may be 0."""
    if len(pixels):
        return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(pixels))
    return pa.array([], pixel_type(pixels.shape[1]))


def pixels_to_numpy(column: pa.ChunkedArray) -> npt.NDArray[np.uint8]:
    """Return a column of images as uint8 (N, S, S)."""
    size = column.type.shape[0]
    images = [chunk.to_numpy_ndarray() for chunk in column.chunks if len(chunk)]
    return np.concatenate(images) if images else np.empty((0, size, size), np.uint8)


EXCLUDED_SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("source_path", "reason", "detail")]
)


class Shortfall(Record):
    """A class with fewer images `available` than `wanted`."""

    label: str
    wanted: int
    available: int


class ImageCounts(Record):
    """What became of the files of the collections."""

    synthetic: bool = Field(description="Some images are drawn by a program.")
    images: int = Field(description="Images that take part.")
    files: int = Field(description="Image files of the collections: those that take part and those excluded.")
    counts: dict[str, dict[str, int]] = Field(description="Class → source → images.")
    contrast: dict[str, int] = Field(description="Source → contrast images, which are in no class.")
    outside: dict[str, int] = Field(
        default_factory=dict,
        description="Source → images of none of the classes, in no fold; {} in manifests of older platforms.",
    )
    reader_labels: dict[str, int] = Field(description="Source → images that readers have labelled too.")
    excluded: dict[str, int] = Field(description="Reason → excluded files.")
    shortfalls: tuple[Shortfall, ...] = Field(description="Classes with fewer images than asked for.")
    groups: dict[str, int] = Field(description="Size of a group → groups of that size.")
    missing_files: dict[str, int] = Field(description="Source → rows of its table without a file.")
    ignored_columns: dict[str, list[str]] = Field(description="Source → columns of its table that are not understood.")
    known_patients: dict[str, int] = Field(description="Source → images whose patient is known.")
    shared_patients: dict[str, int] = Field(
        description="Source → images with an identifier of nearly all of the source, or of its origin: no patient."
    )
    origins: dict[str, str] = Field(
        description="Source → hospital or publication that its images come from, where that is stated."
    )


class LookedAt(ImageCounts):
    """counts.json, which `cxr manifest --look` and a build without folds leave in place of a manifest."""

    excluded_of_class: dict[str, dict[str, int]] = Field(
        description="Class → reason → excluded files to which the collection gives this class."
    )
    excluded_without_class: dict[str, dict[str, int]] = Field(
        description="Reason → its detail → excluded files whose class is not known; the most frequent details."
    )
    without_folds: str = Field(description="Why these images cannot be split into folds; empty if they can.")


class ManifestInfo(ImageCounts):
    """manifest.json. It has no times and no paths of a machine, so that equal builds give equal files.

    `config` and the hashes identify what the manifest was built from.
    """

    schema_version: Literal[2] = 2
    """Raised when a column is added, or anything is removed or changes its meaning; other versions are refused. A key
    that is added has a default instead, so that older manifests can be read. Those of sources with one origin have
    patients by source, which `evidence.study_overlap` takes into account."""
    content_hash: str
    seed: int
    folds: int
    config: IntakeConfig
    created_with: dict[str, str]
    files_hash: str
    overrule_hash: str


def content_hash(rows: pa.Table) -> str:
    """Return the SHA-256 of the rows' values in the order of image_id; pixels are represented by their own hash.

    Values, not files, because Parquet bytes change with the version of the library. Readers' labels count where there
    are some, so that they change no hash of collections without.
    """
    digest = hashlib.sha256()
    for row in rows.sort_by("image_id").to_pylist():
        counted = [value for name, value in row.items() if value is not None or name not in OPTIONAL]
        values = [f"{v:.{SIGNIFICANT_DIGITS}g}" if isinstance(v, float) else v for v in counted]
        digest.update(json.dumps(values, ensure_ascii=True).encode())
    return digest.hexdigest()


def count_images(labels: Sequence[str | None], sources: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return class → source → number of images, in the order of `CLASSES`."""
    pairs = Counter(zip(labels, sources, strict=True))
    return {name: {s: pairs[name, s] for s in sorted(set(sources)) if pairs[name, s]} for name in CLASSES}


def count_groups(groups: Sequence[str]) -> dict[str, int]:
    """Return the size of a group, as text → number of groups of that size."""
    sizes = Counter(Counter(groups).values())
    return {str(size): count for size, count in sorted(sizes.items())}

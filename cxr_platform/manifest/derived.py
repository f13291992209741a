"""Manifests that are made of another one: a part of its images, or all of them in one small file.

Both hold study images alone. A packed manifest is a Parquet file of some 11 kB per image of 200 px, for machines to
which a whole manifest is too large to copy. Its images are JPEG: nearly the same, so that a study over them is another
study, with a content hash of its own.
"""

import hashlib
import io
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from cxr_platform.errors import ManifestError
from cxr_platform.manifest.folds import assign_folds
from cxr_platform.manifest.schema import ManifestInfo, content_hash, count_groups, count_images
from cxr_platform.manifest.store import Manifest, open_manifest, write_excluded, write_images, write_info
from cxr_platform.storage.files import new_folder, write_atomically
from cxr_platform.validation import parse_record

JPEG = "jpeg"
INFO_KEY, QUALITY_KEY = b"cxr.manifest", b"cxr.jpeg_quality"
"""Keys of the metadata of a packed manifest."""
QUALITY = 95
"""JPEG quality at which 3,400 images of 200 px take less than 45 MB."""


def part_of_manifest(
    manifest: Manifest, folder: Path, limit: int | None = None, folds: int | None = None, seed: int = 0
) -> Manifest:
    """Write a manifest of at most `limit` images per class, drawn at random, split anew into `folds`; return it.

    `None` keeps all images, or the number of folds. Raises `FoldError` if a class has too few groups.
    """
    table = _study_rows(manifest)
    order = np.random.default_rng(seed).permutation(len(table))
    labels, drawn = table["label"].to_pylist(), Counter[str]()
    kept = []
    for row in order.tolist():
        if limit is None or drawn[labels[row]] < limit:
            drawn[labels[row]] += 1
            kept.append(row)
    kept.sort()
    numbers = np.flatnonzero(np.array(manifest.table(["role"])["role"].to_pylist()) == "study")[kept]
    rows = table.take(kept)
    count = folds or manifest.info.folds
    grouped, paper = assign_folds(rows["label"].to_pylist(), rows["group_id"].to_pylist(), count, manifest.info.seed)
    rows = _with_column(_with_column(rows, "fold_paper", paper), "fold_grouped", grouped)
    return _write(folder, rows, manifest.pixels()[numbers], manifest.info.model_copy(update={"folds": count}))


def pack_manifest(manifest: Manifest, file: Path, quality: int = QUALITY) -> None:
    """Write the study images of `manifest` and their rows to one Parquet file, as JPEG of `quality`."""
    rows = _study_rows(manifest)
    study = np.array(manifest.table(["role"])["role"].to_pylist()) == "study"
    images = pa.array([_jpeg(image, quality) for image in manifest.pixels(study)], pa.binary())
    info = {INFO_KEY: manifest.info.to_json(), QUALITY_KEY: str(quality).encode()}
    table = rows.append_column(JPEG, images).replace_schema_metadata(info)
    content = io.BytesIO()
    pq.write_table(table, content, compression="none", use_dictionary=False)
    write_atomically(file, content.getvalue())


def packed_quality(file: Path) -> int:
    """Return the JPEG quality of a packed manifest; raise `ManifestError` if `file` is not one."""
    return int(_metadata(file)[QUALITY_KEY])


def unpack_manifest(file: Path, folder: Path) -> Manifest:
    """Write the manifest that is packed in `file` to `folder`, and return it; raise `ManifestError` if it is not one.

    The hashes of pixels, and so the content hash, are those of the images as they are after compression.
    """
    info = parse_record(ManifestInfo, _metadata(file)[INFO_KEY], str(file), ManifestError, "Pack the manifest again.")
    table = pq.read_table(file)
    images = np.stack([_grey(jpeg) for jpeg in table[JPEG].to_pylist()])
    hashes = [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
    rows = _with_column(table.drop_columns([JPEG]), "pixel_sha256", hashes)
    return _write(folder, rows, images, info)


def _metadata(file: Path) -> Mapping[bytes, bytes]:
    try:
        metadata: Mapping[bytes, bytes] = pq.read_schema(file).metadata or {}
    except (OSError, pa.ArrowException) as error:
        raise ManifestError(f"Expected a packed manifest in {file}.", received=error) from error
    if not {INFO_KEY, QUALITY_KEY} <= set(metadata):
        raise ManifestError(f"Expected a packed manifest in {file}.", received="a Parquet file of another kind")
    return metadata


def _study_rows(manifest: Manifest) -> pa.Table:
    table = manifest.table()
    return table.filter(pa.array([role == "study" for role in table["role"].to_pylist()]))


def _write(folder: Path, rows: pa.Table, images: NDArray[np.uint8], info: ManifestInfo) -> Manifest:
    labels, sources = rows["label"].to_pylist(), rows["source"].to_pylist()
    known = Counter(s for s, patient in zip(sources, rows["patient_id"].to_pylist(), strict=True) if patient)
    read = Counter(s for s, finding in zip(sources, rows["reader_finding"].to_pylist(), strict=True) if finding)
    changes = {
        # The images of the parent that are not here are not excluded ones: they are in no file of this manifest.
        **{"images": len(rows), "files": len(rows), "shortfalls": (), "files_hash": info.content_hash},
        **{name: {} for name in ("excluded", "missing_files", "shared_patients")},
        "counts": count_images(labels, sources),
        "contrast": {},
        "outside": {},
        "reader_labels": dict(sorted(read.items())),
        "groups": count_groups(rows["group_id"].to_pylist()),
        "known_patients": {source: known[source] for source in sorted(set(sources))},
        "content_hash": content_hash(rows),
    }
    with new_folder(folder, "manifest.json") as partial:
        write_images(partial, rows, lambda start, stop: images[start:stop], images.shape[1])
        write_excluded(partial, [])
        write_info(partial, info.model_copy(update=changes))
    return open_manifest(folder)


def _with_column(rows: pa.Table, name: str, values: Any) -> pa.Table:
    number = rows.schema.get_field_index(name)
    return rows.set_column(number, rows.schema.field(number), pa.array(values, rows.schema.field(number).type))


def _jpeg(image: NDArray[np.uint8], quality: int) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).save(content, "JPEG", quality=quality)
    return content.getvalue()


def _grey(jpeg: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(jpeg)) as image:
        return np.asarray(image.convert("L"))

"""A manifest described as Croissant 1.1 (JSON-LD of MLCommons), which dataset tools and search engines read.

The description lies beside manifest.json, so that the addresses of its files are relative to it.
"""

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from cxr_platform.errors import NotPossible
from cxr_platform.labels import CLASSES
from cxr_platform.manifest.folders import CROISSANT_FILE
from cxr_platform.manifest.schema import PIXELS
from cxr_platform.manifest.store import IMAGES_FOLDER, Manifest
from cxr_platform.storage.files import write_atomically

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
PARTS, IMAGES, CLASS_SET = "parts", "images", "classes"

DESCRIPTIONS = {
    "image_id": "16 hex digits of the hash of source_path.",
    "source": "Collection that the image comes from.",
    "role": "study: in the folds. external: in no fold, only scored. contrast: of none of the seven "
    "classes, in the folds. outside: of none of the seven classes, in no fold, only scored.",
    "source_path": "Path of the file in the collections: SOURCE/relative/path.",
    "file_sha256": "SHA-256 of the file in the collection.",
    "pixel_sha256": "SHA-256 of the pixels, row by row.",
    "phash": "Perceptual hash, 16 hex digits.",
    "label": "One of the seven classes; null for a contrast and an outside image.",
    "finding": "Finding in the words of the collection.",
    "patient_id": "Salted hash of the patient; null where the collection names none.",
    "group_id": "Images of one patient, duplicates and near-duplicates; image_id of the first.",
    "view": "View of the radiograph.",
    "age": "Age in years.",
    "sex": "M or F.",
    "width": "Width of the file in pixels.",
    "height": "Height of the file in pixels.",
    "bit_depth": "Bits per sample of the file.",
    "color_mode": "Colour mode of the file.",
    "padding_fraction": "Share of the square image that is padding, 0 to 1.",
    "mean": "Mean grey value, 0 to 1, padding excluded.",
    "std": "Standard deviation of the grey values, padding excluded.",
    "pixels": "Grey values of the square image, 0 black to 255 white, row by row.",
    "fold_paper": "Fold of the protocol paper, which shuffles images; -1 outside the folds.",
    "fold_grouped": "Fold of the protocol grouped, which keeps groups together; -1 outside the folds.",
    "reader_label": "Class by readers, or undecided; null where no reader judged the image.",
    "reader_finding": "Finding in the words of the readers.",
}
"""Column of the manifest → its description."""


def check_installed() -> None:
    """Raise `NotPossible` without the extra `croissant`."""
    if importlib.util.find_spec("mlcroissant") is None:
        raise NotPossible("Expected the package mlcroissant.", received="none", advice="Install the extra croissant.")


def write_croissant(manifest: Manifest, name: str) -> Path:
    """Write `CROISSANT_FILE` into the folder of `manifest`, named `name`, and return its path.

    Raise `NotPossible` without the extra `croissant`.
    """
    path = manifest.folder / CROISSANT_FILE
    content = json.dumps(croissant(manifest, name), indent=1, ensure_ascii=False) + "\n"
    write_atomically(path, content.encode())
    return path


def croissant(manifest: Manifest, name: str) -> dict[str, Any]:
    """Return the JSON-LD of `manifest`: its Parquet files with SHA-256, the columns with types, and the classes.

    Raise `NotPossible` without the extra `croissant`. mlcroissant checks the description while it is built.
    """
    check_installed()
    import mlcroissant as mlc

    ctx = mlc.Context(conforms_to=CONFORMS_TO)
    files = [
        mlc.FileObject(
            ctx=ctx,
            id=f"{IMAGES_FOLDER}/{file.name}",
            name=file.name,
            content_url=f"{IMAGES_FOLDER}/{file.name}",
            encoding_formats=[mlc.EncodingFormat.PARQUET],
            content_size=f"{file.stat().st_size} B",
            sha256=_sha256(file),
        )
        for file in manifest.files
    ]
    parts = mlc.FileSet(
        ctx=ctx,
        id=PARTS,
        name=PARTS,
        description="All files of the manifest with images.",
        encoding_formats=[mlc.EncodingFormat.PARQUET],
        includes=[f"{IMAGES_FOLDER}/*.parquet"],
    )
    label = mlc.Field(ctx=ctx, id=f"{CLASS_SET}/label", name="label", data_types=[mlc.DataType.TEXT])
    classes = mlc.RecordSet(
        ctx=ctx,
        id=CLASS_SET,
        name=CLASS_SET,
        description="The seven classes.",
        key=[label.id],
        fields=[label],
        data=[{label.id: value} for value in CLASSES],
    )
    images = mlc.RecordSet(
        ctx=ctx,
        id=IMAGES,
        name=IMAGES,
        description=f"One record per image; {manifest.info.folds} folds.",
        key=[f"{IMAGES}/image_id"],
        fields=[_field(mlc, ctx, column) for column in manifest.schema],
    )
    metadata = mlc.Metadata(
        ctx=ctx,
        name=name,
        description=_description(manifest),
        version=f"{manifest.info.schema_version}.0.0",
        distribution=[*files, parts],
        record_sets=[classes, images],
    )
    tree: dict[str, Any] = metadata.to_json()
    return tree


def _field(mlc: Any, ctx: Any, column: pa.Field) -> Any:
    kinds = {pa.string(): mlc.DataType.TEXT, pa.int32(): mlc.DataType.INT32, pa.float32(): mlc.DataType.FLOAT32}
    pixels = column.name == PIXELS
    shape = {"is_array": True, "array_shape": ",".join(map(str, column.type.shape))} if pixels else {}
    reference = {"references": mlc.Source(ctx=ctx, field=f"{CLASS_SET}/label")} if column.name == "label" else {}
    return mlc.Field(
        ctx=ctx,
        id=f"{IMAGES}/{column.name}",
        name=column.name,
        description=DESCRIPTIONS[column.name],
        data_types=[mlc.DataType.UINT8 if pixels else kinds[column.type]],
        source=mlc.Source(ctx=ctx, file_set=PARTS, extract=mlc.Extract(ctx=ctx, column=column.name)),
        **shape,
        **reference,
    )


def _description(manifest: Manifest) -> str:
    info = manifest.info
    sources = sorted({source for by_source in info.counts.values() for source in by_source})
    frontal = "frontal " * info.config.selection.frontal_only
    text = (
        f"Manifest of {info.images} {frontal}chest radiographs from {', '.join(sources)}, with folds that keep the "
        "images of a patient together (fold_grouped) and folds that do not (fold_paper). "
        f"Content hash {info.content_hash}. For research, not for diagnosis. The licences and terms of the collections "
        "apply to their images."
    )
    return f"{text} Some images are drawn by a program." if info.synthetic else text


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

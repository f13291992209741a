"""What decoding a file found, as held in memory for every image: everything but its pixels."""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import pyarrow as pa

from cxr_platform.intake.duplicates import phash
from cxr_platform.intake.images import ChestImage
from cxr_platform.intake.quality import QualityMeasures


class FileKey(NamedTuple):
    """Which state of which file was decoded; another size or time of change means decoding it again."""

    source_path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class ImageFacts:
    """The measured facts of an image. `phash` is 16 hex digits; the rest as in the manifest's schema."""

    file_sha256: str
    pixel_sha256: str
    phash: str
    width: int
    height: int
    bit_depth: int
    color_mode: str
    padding_fraction: float
    mean: float
    std: float
    view: str | None
    patient_id: str | None
    sex: str | None
    age: float | None
    quality: QualityMeasures


class Decoded(NamedTuple):
    """The outcome for one file: `facts`, or the `reason` and `detail` of `ImageRefused`; its pixels are in a shard."""

    key: FileKey
    facts: ImageFacts | None
    reason: str | None
    detail: str
    shard: str = ""
    row: int = 0


def facts_of(image: ChestImage, data: bytes, patient_id: str | None) -> ImageFacts:
    """The facts of an image that was read from `data`."""
    return ImageFacts(
        file_sha256=hashlib.sha256(data).hexdigest(),
        pixel_sha256=hashlib.sha256(image.pixels.tobytes()).hexdigest(),
        phash=f"{phash(image.pixels):016x}",
        width=image.width,
        height=image.height,
        bit_depth=image.bit_depth,
        color_mode=image.color_mode,
        padding_fraction=image.padding_fraction,
        mean=image.mean,
        std=image.std,
        view=image.view,
        patient_id=patient_id,
        sex=image.sex,
        age=image.age,
        quality=image.quality,
    )


def _arrow_struct(kind: type) -> pa.DataType:
    plain: dict[Any, pa.DataType] = {int: pa.int64(), float: pa.float64(), str: pa.string()}
    plain |= {str | None: pa.string(), float | None: pa.float64()}
    return pa.struct([(f.name, plain.get(f.type) or _arrow_struct(f.type)) for f in fields(kind)])  # type: ignore[arg-type]


RECORD_SCHEMA = pa.schema(
    [
        pa.field("source_path", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("mtime_ns", pa.int64(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("facts", _arrow_struct(ImageFacts)),
    ]
)


def to_table(records: list[Decoded]) -> pa.Table:
    """The records as rows of `RECORD_SCHEMA`, in order."""
    rows = [{**r.key._asdict(), **_outcome(r)} for r in records]
    return pa.Table.from_pylist(rows, schema=RECORD_SCHEMA)


def _outcome(record: Decoded) -> dict[str, Any]:
    facts = asdict(record.facts) if record.facts else None
    return {"reason": record.reason, "detail": record.detail, "facts": facts}


def from_table(table: pa.Table, shard: str) -> Iterator[Decoded]:
    """The records of one shard, each with its row there."""
    for row, values in enumerate(table.to_pylist()):
        key = FileKey(values["source_path"], values["size"], values["mtime_ns"])
        yield Decoded(key, _facts(values["facts"]), values["reason"], values["detail"], shard, row)


def _facts(values: dict[str, Any] | None) -> ImageFacts | None:
    if values is None:
        return None
    return ImageFacts(**{**values, "quality": QualityMeasures(**values["quality"])})

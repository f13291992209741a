"""What is known of each file while a manifest is built: everything but the pixels, which are in the cache."""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple, cast

import pyarrow as pa

from cxr_platform.intake.candidate import Candidate, Refusal
from cxr_platform.intake.duplicates import phash
from cxr_platform.intake.images import ChestImage
from cxr_platform.intake.quality import QualityMeasures
from cxr_platform.storage.files import read_errors


class FileKey(NamedTuple):
    """The state of a file: with another size or time of change it is decoded again."""

    source_path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class ImageFacts:
    """Measurements of an image. `phash` is 16 hex digits; the rest as in the manifest's schema.

    `patient_id` and `header_key` are salted hashes of the identifier in the DICOM header: within the source, and alike
    in all sources.
    """

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
    other_body_part: str | None
    for_processing: bool
    patient_id: str | None
    header_key: str | None
    sex: str | None
    age: float | None
    quality: QualityMeasures


class Decoded(NamedTuple):
    """The result for one file: `facts`, or `reason` and `detail` of `ImageRefused`; its pixels are `row` of `shard`."""

    key: FileKey
    facts: ImageFacts | None
    reason: str | None
    detail: str
    shard: str = ""
    row: int = 0


@dataclass(frozen=True)
class SelectedImage:
    """An image that takes part."""

    candidate: Candidate
    decoded: Decoded

    @property
    def facts(self) -> ImageFacts:
        """Its measurements, which a selected image always has."""
        return cast(ImageFacts, self.decoded.facts)

    @property
    def in_study(self) -> bool:
        """True for an image of the study, False for an external, a contrast or an outside image."""
        return self.candidate.role == "study"

    @property
    def is_contrast(self) -> bool:
        """True for a contrast image."""
        return self.candidate.role == "contrast"

    @property
    def is_outside(self) -> bool:
        """True for an outside image."""
        return self.candidate.role == "outside"

    @property
    def has_class(self) -> bool:
        """True for an image of the study or an external one, which have a label unless a folder states none."""
        return not (self.is_contrast or self.is_outside)

    @cached_property
    def image_id(self) -> str:
        """16 hex digits of the hash of `source_path`: the same in every build and on every machine."""
        return hashlib.sha256(self.candidate.source_path.encode()).hexdigest()[:16]


class ExcludedFile(NamedTuple):
    """A file that takes no part; `decoded` is shown on its contact sheet, if it was decoded."""

    source_path: str
    refusal: Refusal
    decoded: Decoded | None


def file_key(candidate: Candidate) -> FileKey:
    """Return the present state of the file; sizes of -1 if it is not accessible, so that opening it gives the reason.

    Raises `StorageError` if an object store does not answer.
    """
    try:
        with read_errors(candidate.path, remote_only=True):
            status = candidate.path.stat()
    except OSError:
        return FileKey(candidate.source_path, -1, -1)
    return FileKey(candidate.source_path, status.st_size, status.st_mtime_ns)


def image_facts(image: ChestImage, data: bytes, patient_id: str | None, header_key: str | None) -> ImageFacts:
    """Return the facts of an image that was decoded from `data`, the bytes of its file."""
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
        other_body_part=image.other_body_part,
        for_processing=image.for_processing,
        patient_id=patient_id,
        header_key=header_key,
        sex=image.sex,
        age=image.age,
        quality=image.quality,
    )


def _arrow_struct(kind: type) -> pa.DataType:
    plain: dict[Any, pa.DataType] = {int: pa.int64(), float: pa.float64(), str: pa.string(), bool: pa.bool_()}
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


def records_to_table(records: list[Decoded]) -> pa.Table:
    """Return the records as rows of `RECORD_SCHEMA`, in order."""
    rows = [
        {
            **record.key._asdict(),
            "reason": record.reason,
            "detail": record.detail,
            "facts": asdict(record.facts) if record.facts else None,
        }
        for record in records
    ]
    return pa.Table.from_pylist(rows, schema=RECORD_SCHEMA)


def records_from_table(table: pa.Table, shard: str) -> Iterator[Decoded]:
    """Yield the records of one shard, each with its row there."""
    for row, values in enumerate(table.to_pylist()):
        key = FileKey(values["source_path"], values["size"], values["mtime_ns"])
        facts = values["facts"]
        if facts is not None:
            facts = ImageFacts(**{**facts, "quality": QualityMeasures(**facts["quality"])})
        yield Decoded(key, facts, values["reason"], values["detail"], shard, row)

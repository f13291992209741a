"""From the bytes of a file to the image that a model sees: `read_image`, which the manifest and serving share."""

import re
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr_platform.config import DecodingConfig, IntakeConfig
from cxr_platform.errors import ImageRefused
from cxr_platform.intake.dicom import decode_dicom
from cxr_platform.intake.dicom_source import DicomSource
from cxr_platform.intake.grey_image import GreyImage
from cxr_platform.intake.jpeg2000 import JP2_SIGNATURE, JPEG2000_START
from cxr_platform.intake.letterbox import letterbox
from cxr_platform.intake.quality import QualityMeasures, measure
from cxr_platform.intake.raster import decode_raster

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
DICOM_PREFIX = b"DICM"
PREAMBLE_BYTES = 128
FIRST_GROUPS = (0x0002, 0x0008)
"""File Meta Information and Identifying: the groups with which an object without a preamble can begin."""
LAST_EARLY_ELEMENT = 0x0102
VALUE_REPRESENTATIONS = frozenset({b"AE", b"CS", b"DA", b"LO", b"OB", b"SH", b"TM", b"UI", b"UL"})
"""Value representations of the first elements of these groups."""

AS_PNG, AS_DICOM, UNPACK = "save it as PNG", "export the radiograph as DICOM or PNG", "unpack it"
HEAD_BYTES = 2048
MARKUP = rb"(?:\xef\xbb\xbf)?\s*"
OTHER_FORMATS: tuple[tuple[str, str, re.Pattern[bytes]], ...] = tuple(
    (name, advice, re.compile(pattern, re.DOTALL))
    for name, advice, pattern in (
        ("TIFF image", AS_PNG, rb"II[*+]\0|MM\0[*+]"),
        ("WebP image", AS_PNG, rb"RIFF.{4}WEBP"),
        ("JPEG 2000 image", AS_PNG, re.escape(JP2_SIGNATURE) + b"|" + re.escape(JPEG2000_START)),
        ("JPEG XL image", AS_PNG, rb"\xff\x0a|\0\0\0\x0cJXL\x20"),
        ("AVIF image", AS_PNG, rb".{4}ftyp(?:avi[fs]|m[is]f1.{4}(?:.{4}){0,8}avi[fs])"),
        ("HEIC image", AS_PNG, rb".{4}ftyp(?:he[iv].|m[is]f1)"),
        ("GIF image", AS_PNG, rb"GIF8[79]a"),
        # The size of the second header tells it from a text that begins with these letters.
        ("BMP image", AS_PNG, rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0"),
        ("Photoshop document", AS_PNG, rb"8BPS\0[\x01\x02]"),
        ("SVG drawing", AS_PNG, MARKUP + rb"(?:<\?xml.*?|<!--.*?|<!DOCTYPE\s+svg.*?)?<svg[\s>]"),
        ("NIfTI volume", AS_DICOM, rb".{344}n[+i]1\0|.{4}n[+i]2\0"),
        ("NRRD volume", AS_DICOM, rb"NRRD0"),
        ("MetaImage volume", AS_DICOM, rb"ObjectType|NDims"),
        ("PDF document", AS_DICOM, rb"%PDF-"),
        ("zip archive", UNPACK, rb"PK(?:\x03\x04|\x05\x06)"),
        ("gzip archive", UNPACK, rb"\x1f\x8b"),
        ("bzip2 archive", UNPACK, rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"),
        ("xz archive", UNPACK, rb"\xfd7zXZ\0"),
        ("Zstandard archive", UNPACK, rb"\x28\xb5\x2f\xfd"),
        ("7z archive", UNPACK, rb"7z\xbc\xaf\x27\x1c"),
        ("RAR archive", UNPACK, rb"Rar!\x1a\x07"),
        ("tar archive", UNPACK, rb".{257}ustar"),
        ("Git LFS pointer", "get the image with git lfs pull", rb"version https://git-lfs"),
        ("HTML page", "download the image again", MARKUP + rb"<(?i:!DOCTYPE\s+html|html)[\s>]"),
    )
)
"""Formats that are not read: name, advice, and a pattern of the first `HEAD_BYTES`."""


@dataclass(frozen=True, eq=False)
class ChestImage:
    """A decoded and letterboxed image.

    `pixels` is (size, size) uint8; `padding_fraction` is the share of it that is padding; `mean` and `std` are of the
    grey values 0..1 without the padding. `width` and `height` are those of the file, after the EXIF orientation.
    `bit_depth`, `color_mode`, `container` and all that comes from a DICOM header are those of `GreyImage`.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    bit_depth: int
    color_mode: str
    container: str
    padding_fraction: float
    mean: float
    std: float
    view: str | None
    other_body_part: str | None
    for_processing: bool
    patient: str | None
    sex: str | None
    age: float | None
    quality: QualityMeasures
    source: DicomSource | None = None


def read_image(data: bytes, config: IntakeConfig, with_source: bool = False) -> ChestImage:
    """Decode the bytes of a file and fit the image into `config.decoding.image_size` pixels (§2.1.4).

    Whether it may be used is decided by `eligibility.judge_image`. `with_source` and exceptions are those of `decode`.
    """
    image = decode(data, config.decoding, with_source)
    boxed = letterbox(image.values, config.decoding.image_size)
    quality = measure(boxed.content, image.width, image.height, image.colours)
    return ChestImage(
        pixels=boxed.pixels,
        width=image.width,
        height=image.height,
        bit_depth=image.bit_depth,
        color_mode=image.color_mode,
        container=image.container,
        padding_fraction=boxed.padding_fraction,
        mean=float(boxed.content.mean() / 255),
        std=quality.std,
        view=image.view,
        other_body_part=image.other_body_part,
        for_processing=image.for_processing,
        patient=image.patient,
        sex=image.sex,
        age=image.age,
        quality=quality,
        source=image.source,
    )


def decode(data: bytes, config: DecodingConfig, with_source: bool = False) -> GreyImage:
    """Decode the bytes of a PNG, a JPEG or a DICOM object to grey; the content decides which, never the file name.

    `with_source` also returns what a document about a DICOM object takes over from it. Raises only `ImageRefused`,
    whatever the bytes: `not-an-image`, `too-large`, `undecodable`, and for DICOM those of `decode_dicom`.
    """
    if len(data) > config.max_bytes:
        raise ImageRefused("too-large", f"{len(data):,} bytes, the limit is {config.max_bytes:,} bytes")
    container = sniff(data)
    if container is None:
        raise ImageRefused("not-an-image", describe(data))
    if container == "DICOM":
        return decode_dicom(data, config, with_source)
    return decode_raster(data, container, config)


def sniff(data: bytes) -> str | None:
    """Return "PNG", "JPEG" or "DICOM" by the first bytes of a file, `None` for everything else."""
    if data.startswith(PNG_SIGNATURE):
        return "PNG"
    if data.startswith(JPEG_SIGNATURE):
        return "JPEG"
    if data[PREAMBLE_BYTES : PREAMBLE_BYTES + 4] == DICOM_PREFIX or _begins_with_dicom_element(data):
        return "DICOM"
    return None


def _begins_with_dicom_element(data: bytes) -> bool:
    """Return True if the first eight bytes are a data element of `FIRST_GROUPS`, in either byte order."""
    if len(data) < 8:
        return False
    for order in "<>":
        group, element, length = struct.unpack_from(f"{order}HHL", data)
        if group in FIRST_GROUPS and element <= LAST_EARLY_ELEMENT:
            return data[4:6] in VALUE_REPRESENTATIONS or (order == "<" and length <= len(data) - 8)
    return False


def describe(data: bytes) -> str:
    """Return the format of a file that is not read, and what to do with it."""
    if not data:
        return "the file is empty"
    known = other_format(data)
    return "; ".join(known) if known else f"the content begins with {data[:16]!r}"


def other_format(data: bytes) -> tuple[str, str] | None:
    """Return the name of a format that is not read, and what to do: constants of `OTHER_FORMATS`. `None` if unknown."""
    head = data[:HEAD_BYTES]
    return next(((name, advice) for name, advice, pattern in OTHER_FORMATS if pattern.match(head)), None)

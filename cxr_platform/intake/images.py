"""From the bytes of a file to the image that a model sees: `read_image`, which the manifest and serving share."""

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr_platform.config import DecodingConfig, IntakeConfig
from cxr_platform.errors import ImageRefused
from cxr_platform.intake.codestream import JP2_SIGNATURE, JPEG2000_START
from cxr_platform.intake.dicom import decode_dicom
from cxr_platform.intake.grey_image import GreyImage
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
OTHER_FORMATS: tuple[tuple[str, str, int, tuple[bytes, ...]], ...] = (
    ("TIFF image", AS_PNG, 0, (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    ("WebP image", AS_PNG, 8, (b"WEBP",)),
    ("JPEG 2000 image", AS_PNG, 0, (JP2_SIGNATURE, JPEG2000_START)),
    ("JPEG XL image", AS_PNG, 0, (b"\xff\x0a", b"\0\0\0\x0cJXL ")),
    (
        "HEIC image",
        AS_PNG,
        4,
        tuple(b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"hevc", b"mif1", b"msf1")),
    ),
    ("AVIF image", AS_PNG, 4, (b"ftypavif", b"ftypavis")),
    ("GIF image", AS_PNG, 0, (b"GIF87a", b"GIF89a")),
    ("BMP image", AS_PNG, 0, (b"BM",)),
    ("NIfTI volume", AS_DICOM, 344, (b"n+1\0", b"ni1\0")),
    ("NIfTI volume", AS_DICOM, 4, (b"n+2\0", b"ni2\0")),
    ("NRRD volume", AS_DICOM, 0, (b"NRRD0",)),
    ("MetaImage volume", AS_DICOM, 0, (b"ObjectType", b"NDims")),
    ("PDF document", AS_DICOM, 0, (b"%PDF-",)),
    ("zip archive", UNPACK, 0, (b"PK\x03\x04", b"PK\x05\x06")),
    ("gzip archive", UNPACK, 0, (b"\x1f\x8b",)),
    ("7z archive", UNPACK, 0, (b"7z\xbc\xaf\x27\x1c",)),
    ("RAR archive", UNPACK, 0, (b"Rar!\x1a\x07",)),
    ("Git LFS pointer", "get the image with git lfs pull", 0, (b"version https://git-lfs",)),
    ("HTML page", "download the image again", 0, (b"<!DOCTYPE", b"<!doctype", b"<html", b"<HTML")),
)
"""Formats that are not read: name, advice, and the bytes at an offset by which they are known."""


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


def read_image(data: bytes, config: IntakeConfig) -> ChestImage:
    """Decode the bytes of a file and fit the image into `config.decoding.image_size` pixels (§2.1.4).

    Whether it may be used is decided by `eligibility.judge_image`. Raises only `ImageRefused`, with the reasons of
    `decode`.
    """
    image = decode(data, config.decoding)
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
    )


def decode(data: bytes, config: DecodingConfig) -> GreyImage:
    """Decode the bytes of a PNG, a JPEG or a DICOM object to grey; the content decides which, never the file name.

    Raises only `ImageRefused`, whatever the bytes: `not-an-image`, `too-large`, `undecodable`, and for DICOM
    `no-pixel-data`, `modality`, `multi-frame`.
    """
    if len(data) > config.max_bytes:
        raise ImageRefused("too-large", f"{len(data):,} bytes, the limit is {config.max_bytes:,} bytes")
    container = sniff(data)
    if container is None:
        raise ImageRefused("not-an-image", describe(data))
    return decode_dicom(data, config) if container == "DICOM" else decode_raster(data, container, config)


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
    for name, advice, offset, signatures in OTHER_FORMATS:
        if data.startswith(signatures, offset):
            return f"{name}; {advice}"
    return f"the content begins with {data[:16]!r}"

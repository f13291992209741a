"""What a file is, by its content and never by its name, and the decoder for it."""

import struct

from cxr_platform.config import DecodingConfig
from cxr_platform.errors import ImageRefused
from cxr_platform.intake.dicom import decode_dicom
from cxr_platform.intake.grey import GreyImage
from cxr_platform.intake.raster import decode_raster

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
DICOM_PREFIX = b"DICM"
PREAMBLE_BYTES = 128
FIRST_GROUPS = (0x0002, 0x0008)
"""File Meta Information and Identifying: the groups that an object without a preamble can begin with."""
LAST_EARLY_ELEMENT = 0x0102
VALUE_REPRESENTATIONS = frozenset({b"AE", b"CS", b"DA", b"LO", b"OB", b"SH", b"TM", b"UI", b"UL"})
"""Those of the first elements of the two groups."""


def decode(data: bytes, config: DecodingConfig) -> GreyImage:
    """The grey image in the bytes of a PNG, a JPEG or a DICOM object.

    Raises `ImageRefused` and nothing else, whatever the bytes: `not-an-image`, `too-large`, `undecodable`, and for
    DICOM `no-pixel-data`, `modality`, `multi-frame`.
    """
    if len(data) > config.max_bytes:
        raise ImageRefused("too-large", f"{len(data):,} bytes, the limit is {config.max_bytes:,} bytes")
    container = sniff(data)
    if container is None:
        raise ImageRefused("not-an-image", f"the content begins with {data[:16]!r}" if data else "the file is empty")
    if container == "DICOM":
        return decode_dicom(data, config)
    return decode_raster(data, container, config)


def sniff(data: bytes) -> str | None:
    """ "PNG", "JPEG", "DICOM", or `None` for everything else."""
    if data.startswith(PNG_SIGNATURE):
        return "PNG"
    if data.startswith(JPEG_SIGNATURE):
        return "JPEG"
    if data[PREAMBLE_BYTES : PREAMBLE_BYTES + 4] == DICOM_PREFIX or _begins_with_an_element(data):
        return "DICOM"
    return None


def _begins_with_an_element(data: bytes) -> bool:
    """Whether the first eight bytes are a data element of an early group, in either byte order."""
    if len(data) < 8:
        return False
    for order in "<>":
        group, element, length = struct.unpack_from(f"{order}HHL", data)
        if group in FIRST_GROUPS and element <= LAST_EARLY_ELEMENT:
            return data[4:6] in VALUE_REPRESENTATIONS or (order == "<" and length <= len(data) - 8)
    return False

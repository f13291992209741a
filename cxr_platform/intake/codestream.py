"""What a compressed frame states about itself, read before any decoder: its size, its scans, its chunks or runs.

A native decoder allocates what the codestream states, not what the DICOM header states, so both must agree before it is
called. What is in a frame beside its pixels is counted, because decoders take long for much of it. Sources: ITU-T T.81
table B.1 (JPEG), T.87 annex C (JPEG-LS), DICOM PS3.5 annex G (RLE); JPEG 2000 is read by `jpeg2000`.
"""

import re
import struct
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cxr_platform.errors import ImageRefused
from cxr_platform.intake.jpeg2000 import JP2_SIGNATURE, JPEG2000_START, read_codestream

START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
"""Second bytes of the SOF markers: JPEG without DHT, JPG and DAC, and 0xF7 for JPEG-LS."""
WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
JPEG_START = b"\xff\xd8"
START_OF_SCAN, END_OF_IMAGE, APPLICATION_1 = b"\xda", b"\xd9", b"\xe1"
MARKER = re.compile(rb"\xff([\xc0-\xcf\xd8-\xfe])")
"""A marker among entropy-coded bytes: there 0xFF is followed by 0x00, a restart (0xD0 to 0xD7) or another 0xFF."""

MAX_SCANS, MAX_SEGMENTS, MAX_FILL_BYTES = 50, 2_000, 2**16
"""Writers of progressive JPEGs make 6 to 14 scans. The other two limits bound the time of parsers in Python: Pillow's
takes 5 s for 20 MB of empty segments and 8 s for 20 MB of fill bytes."""

EXIF_SEGMENT = re.compile(rb"..Exif\0\0", re.DOTALL)
MAX_EXIF_SEGMENTS = 32
"""One holds 64 KiB, which is enough for a camera. Pillow copies all of them for each further one: 17 s for 1,000."""

FIRST_CHUNK = 8
MAX_CHUNKS = 20_000
"""Chunks of a PNG. libpng writes one for 8 KiB of compressed pixels, thus some 8,000 in the largest file that is read.
Pillow takes 4 s for 18 MB of empty ones."""
MAX_PROFILES = 4
"""Colour profiles of a PNG, of which there should be one: Pillow inflates each to up to 1 MiB."""

RLE_HEADER = struct.Struct("<16L")
LONGEST_RUN, RLE_SLACK = 128, 2
"""Times by which the runs of a segment may exceed its pixels: some writers pad."""

FILLING = b"\x55" * 512


class FrameSize(NamedTuple):
    """Size in pixels and number of components that a codestream states."""

    width: int
    height: int
    components: int


def with_end_marker(frame: bytes, decode: Callable[[bytes], NDArray[Any]]) -> bytes | None:
    """Return a JPEG that lacks its end marker, or half of it, with one; `None` if pixels are missing too.

    `decode` returns the values of a frame at its full size. A decoder ignores bytes between the last pixel and the end
    marker, but takes them for missing pixels: no pixel is missing if they change no value.
    """
    frame = frame.rstrip(b"\xff")
    closed, filled = frame + b"\xff" + END_OF_IMAGE, frame + FILLING + b"\xff" + END_OF_IMAGE
    try:
        return closed if np.array_equal(decode(closed), decode(filled)) else None
    except Exception:  # every library raises anything on hostile bytes
        return None


def frame_size(frame: bytes) -> FrameSize | None:
    """Return the size in the header of a JPEG, JPEG-LS or JPEG 2000 codestream, `None` if there is no such header."""
    try:
        if frame.startswith(JPEG_START):
            return _jpeg_size(frame)
        if frame.startswith((JPEG2000_START, JP2_SIGNATURE)):
            stated = read_codestream(frame)
            return FrameSize(stated.width, stated.height, stated.components) if stated else None
    except (struct.error, IndexError, ValueError):  # cut off
        pass
    return None


def check_scans(frame: bytes) -> None:
    """Raise `ImageRefused` (undecodable) for a JPEG that takes a decoder far longer than its size suggests.

    Every scan of a progressive JPEG visits every pixel, even if it is empty: 30 to 40 ms for the 75 bytes of one scan
    at 7,000 × 7,000 pixels, thus hours for a body of 20 MB, in native code that no time-out ends.
    """
    at, scans, filling, exif = len(JPEG_START), 0, 0, 0
    for _ in range(MAX_SEGMENTS):
        marker = MARKER.search(frame, at)
        scans += marker is not None and marker[1] == START_OF_SCAN
        filling += 0 if scans else (marker.start() if marker else len(frame)) - at
        exif += (
            marker is not None and marker[1] == APPLICATION_1 and EXIF_SEGMENT.match(frame, marker.end()) is not None
        )
        if scans > MAX_SCANS or filling > MAX_FILL_BYTES or exif > MAX_EXIF_SEGMENTS:
            break
        if marker is None or marker[1] == END_OF_IMAGE:
            return
        at = marker.end() + int.from_bytes(frame[marker.end() : marker.end() + 2], "big")
    raise ImageRefused(
        "undecodable",
        f"JPEG: more than {MAX_SCANS} scans, {MAX_SEGMENTS:,} segments, {MAX_FILL_BYTES:,} fill bytes or "
        f"{MAX_EXIF_SEGMENTS} segments of Exif; save it again",
    )


def check_chunks(data: bytes) -> None:
    """Raise `ImageRefused` (undecodable) for a PNG with more chunks than its pixels and texts need."""
    at, profiles = FIRST_CHUNK, 0
    for _ in range(MAX_CHUNKS):
        name = data[at + 4 : at + 8]
        profiles += name == b"iCCP"
        if profiles > MAX_PROFILES:
            break
        if len(name) < 4 or name == b"IEND":
            return
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    raise ImageRefused(
        "undecodable", f"PNG: more than {MAX_CHUNKS:,} chunks or {MAX_PROFILES} colour profiles; save it again"
    )


def check_runs(frame: bytes, pixels: int) -> None:
    """Raise `ImageRefused` (undecodable) for an RLE frame with a segment that is far longer than `pixels` bytes.

    pydicom decodes a segment before it compares: two bytes become up to 128, a file of 64 MiB 4 GiB.
    """
    if len(frame) < RLE_HEADER.size:
        return  # no frame, which the decoder says
    count, *offsets = RLE_HEADER.unpack_from(frame)
    bounds = [*offsets[:count], len(frame)]
    most = RLE_SLACK * pixels + LONGEST_RUN
    for start, end in pairwise(bounds):
        if _decoded_length(frame[start:end], most) > most:
            raise ImageRefused(
                "undecodable", f"DICOM: an RLE segment of more than {most:,} bytes for {pixels:,} pixels"
            )


def _decoded_length(segment: bytes, enough: int) -> int:
    """Return the bytes to which an RLE segment decodes (PS3.5 annex G), or a number beyond `enough`."""
    at, length = 0, 0
    while at < len(segment) and length <= enough:
        head = segment[at]
        length += 257 - head if head > 128 else head + 1 if head < 128 else 0
        at += 2 if head > 128 else head + 2 if head < 128 else 1
    return length


def _jpeg_size(frame: bytes) -> FrameSize | None:
    at = 2
    while frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in WITHOUT_LENGTH:
            at += 2
        elif marker in START_OF_FRAME:
            height, width, components = struct.unpack_from(">HHB", frame, at + 5)
            return FrameSize(width, height, components)
        else:
            at += 2 + struct.unpack_from(">H", frame, at + 2)[0]
    return None

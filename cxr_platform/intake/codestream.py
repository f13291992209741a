"""What a compressed frame states about itself, read before any native decoder: its size and its number of scans.

A native decoder allocates what the codestream states, not what the DICOM header states, so both must agree before it is
called. Sources: ITU-T T.81 table B.1 (JPEG), T.87 annex C (JPEG-LS), T.800 A.5.1 (JPEG 2000, SIZ).
"""

import re
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cxr_platform.errors import ImageRefused

START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
"""Second bytes of the SOF markers: JPEG without DHT, JPG and DAC, and 0xF7 for JPEG-LS."""
WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
JPEG_START = b"\xff\xd8"
START_OF_SCAN, END_OF_IMAGE = b"\xda", b"\xd9"
MARKER = re.compile(rb"\xff([\xc0-\xcf\xd8-\xfe])")
"""A marker among entropy-coded bytes: there 0xFF is followed by 0x00, a restart (0xD0 to 0xD7) or another 0xFF."""

MAX_SCANS, MAX_SEGMENTS, MAX_FILL_BYTES = 50, 2_000, 2**16
"""Writers of progressive JPEGs make 6 to 14 scans. The other two limits bound the time of parsers in Python: Pillow's
takes 5 s for 20 MB of empty segments and 8 s for 20 MB of fill bytes."""

FILLING = b"\x55" * 512

JPEG2000_START = b"\xff\x4f\xff\x51"
JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  "


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
            return _jpeg2000_size(frame)
    except (struct.error, IndexError, ValueError):  # cut off
        pass
    return None


def check_scans(frame: bytes) -> None:
    """Raise `ImageRefused` (undecodable) for a JPEG that takes a decoder far longer than its size suggests.

    Every scan of a progressive JPEG visits every pixel, even if it is empty: 30 to 40 ms for the 75 bytes of one scan
    at 7,000 × 7,000 pixels, thus hours for a body of 20 MB, in native code that no time-out ends.
    """
    at, scans, filling = len(JPEG_START), 0, 0
    for _ in range(MAX_SEGMENTS):
        marker = MARKER.search(frame, at)
        scans += marker is not None and marker[1] == START_OF_SCAN
        filling += 0 if scans else (marker.start() if marker else len(frame)) - at
        if scans > MAX_SCANS or filling > MAX_FILL_BYTES:
            break
        if marker is None or marker[1] == END_OF_IMAGE:
            return
        at = marker.end() + int.from_bytes(frame[marker.end() : marker.end() + 2], "big")
    raise ImageRefused(
        "undecodable",
        f"JPEG: more than {MAX_SCANS} scans, {MAX_SEGMENTS:,} segments or {MAX_FILL_BYTES:,} fill bytes",
    )


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


def _jpeg2000_size(frame: bytes) -> FrameSize:
    at = frame.index(JPEG2000_START) + 8
    right, bottom, left, top = struct.unpack_from(">4I", frame, at)
    (components,) = struct.unpack_from(">H", frame, at + 32)
    return FrameSize(right - left, bottom - top, components)

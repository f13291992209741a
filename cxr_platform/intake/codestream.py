"""Width, height and components of a compressed DICOM frame, read from its own header.

A native decoder allocates what the codestream says, not what the DICOM header says; so both must agree before it is
called. Sources: ITU-T T.81 table B.1 (JPEG), T.87 annex C (JPEG-LS), T.800 A.5.1 (JPEG 2000, SIZ).
"""

import struct
from typing import NamedTuple

START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
"""Second bytes of the SOF markers: JPEG without DHT, JPG and DAC, and 0xF7 for JPEG-LS."""
WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
JPEG_START = b"\xff\xd8"
JPEG2000_START = b"\xff\x4f\xff\x51"
JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  "


class FrameSize(NamedTuple):
    """What a codestream says of itself."""

    width: int
    height: int
    components: int


def frame_size(frame: bytes) -> FrameSize | None:
    """The size in the header of a JPEG, JPEG-LS or JPEG 2000 codestream; `None` where it is none of them or cut off."""
    try:
        if frame.startswith(JPEG_START):
            return _jpeg(frame)
        if frame.startswith((JPEG2000_START, JP2_SIGNATURE)):
            return _jpeg2000(frame)
    except (struct.error, IndexError, ValueError):
        pass
    return None


def _jpeg(frame: bytes) -> FrameSize | None:
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


def _jpeg2000(frame: bytes) -> FrameSize:
    at = frame.index(JPEG2000_START) + 8
    right, bottom, left, top = struct.unpack_from(">4I", frame, at)
    (components,) = struct.unpack_from(">H", frame, at + 32)
    return FrameSize(right - left, bottom - top, components)

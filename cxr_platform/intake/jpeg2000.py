"""What the header of a JPEG 2000 frame asks of a decoder: ITU-T T.800 annex A (codestream) and annex I (JP2 boxes).

OpenJPEG allocates a structure for each precinct and each layer of it, whether or not the codestream has data for it:
774 bytes that state precincts of 2 × 2 pixels take minutes and many gigabytes.
"""

import struct
from typing import NamedTuple

from cxr_platform.errors import ImageRefused

JPEG2000_START = b"\xff\x4f\xff\x51"
JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  "
CODESTREAM_BOX = b"jp2c"
MAX_BOXES = 100
CODING_STYLE, COMPONENT_STYLE, TILE_PART, TILE_DATA = 0xFF52, 0xFF53, 0xFF90, 0xFF93
"""Markers COD, COC, SOT and SOD."""
MAX_SEGMENTS = 20_000
MAX_PRECINCTS, MAX_PACKETS = 100_000, 1_000_000
"""Precincts of all tiles, levels and components, and these times layers. Writers use 64 pixels or more for a precinct
(17,000 in the largest image) and up to 20 layers."""


class Codestream(NamedTuple):
    """Sizes in pixels of an image and its tiles, and the number of its components, from the SIZ marker segment."""

    start: int
    width: int
    height: int
    tile_width: int
    tile_height: int
    components: int


def read_codestream(frame: bytes) -> Codestream | None:
    """Return what SIZ states, `None` for another format; raise `struct.error` for a header that is cut off.

    A JP2 file is searched by its boxes: what looks like a codestream in another box is none.
    """
    start = _codestream_start(frame)
    if start is None or not frame.startswith(JPEG2000_START, start):
        return None
    right, bottom, left, top, tile_width, tile_height = struct.unpack_from(">6I", frame, start + 8)
    (components,) = struct.unpack_from(">H", frame, start + 40)
    return Codestream(start, right - left, bottom - top, tile_width, tile_height, components)


def check_precincts(frame: bytes) -> None:
    """Raise `ImageRefused` (undecodable) for more precincts, packets or marker segments than an image needs."""
    try:
        codestream = read_codestream(frame)
        if codestream is None:
            return  # the caller compares sizes
        precincts, packets = _counts(frame, codestream)
    except (struct.error, IndexError):
        raise ImageRefused("undecodable", "JPEG 2000: the header is cut off or longer than that of any image") from None
    if precincts > MAX_PRECINCTS or packets > MAX_PACKETS:
        raise ImageRefused(
            "undecodable",
            f"JPEG 2000: {precincts:,} precincts and {packets:,} packets, the limits are {MAX_PRECINCTS:,} and "
            f"{MAX_PACKETS:,}; save it again",
        )


def _codestream_start(frame: bytes) -> int | None:
    if not frame.startswith(JP2_SIGNATURE):
        return 0
    at = 0
    for _ in range(MAX_BOXES):
        length, name = struct.unpack_from(">I4s", frame, at)
        head = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", frame, at + 8)
            head = 16
        if name == CODESTREAM_BOX:
            return at + head
        if length < head:
            return None
        at += length
    return None


def _counts(frame: bytes, codestream: Codestream) -> tuple[int, int]:
    """Return the numbers of precincts and packets, by the most demanding of all coding styles of the codestream."""
    width, height = (max(side, 1) for side in (codestream.tile_width, codestream.tile_height))
    tiles = -(-codestream.width // width) * -(-codestream.height // height)
    tile = min(width, codestream.width), min(height, codestream.height)
    most, layers = 1, 1
    for marker, content in _segments(frame, codestream.start + 2):
        if marker == CODING_STYLE:
            layers = max(layers, struct.unpack_from(">H", content, 2)[0])
            style, with_precincts = content[5:], content[0] & 1
        else:
            index = 1 if codestream.components < 257 else 2
            style, with_precincts = content[index + 1 :], content[index] & 1
        most = max(most, _precincts(tile, style[0], style[5:] if with_precincts else b""))
    precincts = tiles * codestream.components * most
    return precincts, precincts * layers


def _precincts(tile: tuple[int, int], levels: int, exponents: bytes) -> int:
    """Return the precincts of all resolution levels of one component of a tile."""
    total = 0
    for level in range(levels + 1):
        exponent = exponents[level] if exponents else 0xFF
        total += _parts(tile[0], levels - level + (exponent & 15)) * _parts(tile[1], levels - level + (exponent >> 4))
    return total


def _parts(side: int, exponent: int) -> int:
    return -(-side >> exponent)


def _segments(frame: bytes, at: int) -> list[tuple[int, bytes]]:
    """Return the COD and COC marker segments of the main header and of all tile-parts."""
    found: list[tuple[int, bytes]] = []
    tile_end = 0
    for _ in range(MAX_SEGMENTS):
        if at + 4 > len(frame):
            return found
        marker, length = struct.unpack_from(">HH", frame, at)
        if marker == TILE_DATA:
            if tile_end <= at:
                return found
            at = tile_end
            continue
        if marker < 0xFF00 or length < 2:
            return found  # the end, or a fault that the decoder names
        if marker == TILE_PART:
            (part,) = struct.unpack_from(">I", frame, at + 6)
            tile_end = at + part if part else 0
        elif marker in (CODING_STYLE, COMPONENT_STYLE):
            found.append((marker, frame[at + 4 : at + 2 + length]))
        at += 2 + length
    raise IndexError

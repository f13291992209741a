import struct

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

from cxr_platform.config import DecodingConfig
from cxr_platform.errors import ImageRefused
from cxr_platform.intake import dicom_pixels
from cxr_platform.intake.codestream import FrameSize, frame_size
from cxr_platform.intake.dicom import decode_dicom
from cxr_platform.intake.jpeg2000 import JP2_SIGNATURE, MAX_BOXES, MAX_SEGMENTS, check_precincts, read_codestream
from tests.intake.files import dataset, dicom, ramp, saved

SIZ, COD, SOT = b"\xff\x51", b"\xff\x52", b"\xff\x90"


def _frame(side: int, tile: int = 0, layers: int = 1, exponent: int | None = None, style: bytes = b"\xff\x52") -> bytes:
    """A codestream of 64 × 64 pixels that states another size, tiles, layers and precincts.

    A `style` of another marker is a segment of its own, in the header of the first tile.
    """
    frame = bytearray(saved(np.zeros((64, 64), np.uint8), "JPEG2000", no_jp2=True))
    struct.pack_into(">2I", frame, frame.index(SIZ) + 6, side, side)
    struct.pack_into(">2I", frame, frame.index(SIZ) + 22, tile or side, tile or side)
    at = frame.index(COD)
    (length,) = struct.unpack_from(">H", frame, at + 2)
    content = bytearray(frame[at + 4 : at + 2 + length])
    struct.pack_into(">H", content, 2, layers)
    if exponent is not None:
        content[0] |= 1
        content += bytes([exponent * 17]) * (content[5] + 1)
    if style == COD:
        frame[at : at + 2 + length] = COD + struct.pack(">H", len(content) + 2) + content
    else:
        tile_part = frame.index(SOT)
        segment = style + struct.pack(">H", len(content) - 1) + bytes([0, content[0]]) + content[5:]
        frame[tile_part + 12 : tile_part + 12] = segment
        (part,) = struct.unpack_from(">I", frame, tile_part + 6)
        struct.pack_into(">I", frame, tile_part + 6, part + len(segment))
    return bytes(frame)


def test_the_size_and_tiles_are_read_from_a_codestream_and_a_file() -> None:
    colours = Image.fromarray(ramp(60, 80)).convert("RGB")
    bare, boxed = saved(colours, "JPEG2000", no_jp2=True, tile_size=(32, 16)), saved(colours, "JPEG2000")
    stated = read_codestream(bare)
    assert stated is not None
    assert stated[1:] == (80, 60, 32, 16, 3)
    assert frame_size(boxed) == FrameSize(80, 60, 3)


def test_what_looks_like_a_codestream_in_another_box_is_none() -> None:
    boxed = saved(Image.fromarray(ramp(60, 80)), "JPEG2000")
    disguise = struct.pack(">I4s", 8 + 768, b"uuid") + _frame(8).ljust(768, b"\0")[:768]
    file = boxed[: len(JP2_SIGNATURE) + 4] + disguise + boxed[len(JP2_SIGNATURE) + 4 :]
    assert frame_size(file) == FrameSize(80, 60, 1)
    assert frame_size(boxed[:12] + struct.pack(">I4s", 8, b"free") * MAX_BOXES + boxed[12:]) is None


@pytest.mark.parametrize(
    ("tile", "layers", "exponent"), [(0, 1, None), (256, 20, None), (0, 20, 8), (0, 12, 7), (1024, 1, 6), (512, 6, 7)]
)
def test_what_writers_use_is_accepted_for_the_largest_image(tile: int, layers: int, exponent: int | None) -> None:
    check_precincts(_frame(7000, tile, layers, exponent))


@pytest.mark.parametrize(
    ("tile", "layers", "exponent", "style"),
    [
        (0, 1, 1, b"\xff\x52"),
        (0, 1, 4, b"\xff\x52"),
        (0, 1, 1, b"\xff\x53"),
        (0, 65535, 7, b"\xff\x52"),
        (28, 1, None, b"\xff\x52"),
        (1, 1, None, b"\xff\x52"),
    ],
)
def test_more_precincts_tiles_or_layers_are_refused_wherever_they_are_stated(
    tile: int, layers: int, exponent: int | None, style: bytes
) -> None:
    with pytest.raises(ImageRefused, match="precincts and") as refused:
        check_precincts(_frame(7000, tile, layers, exponent, style))
    assert refused.value.reason == "undecodable"


def test_a_header_without_end_or_cut_off_is_refused() -> None:
    frame = _frame(64)
    comments = b"\xff\x64\x00\x02" * (MAX_SEGMENTS + 1)
    for hostile in (frame[: frame.index(COD)] + comments + frame[frame.index(COD) :], frame[:20]):
        with pytest.raises(ImageRefused, match="cut off"):
            check_precincts(hostile)


def test_a_dicom_object_of_few_bytes_and_many_precincts_is_refused_before_it_is_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It took 17 s and 5.5 GiB, and more where there is more."""
    image = dataset(np.zeros((64, 64), np.uint8), Rows=7000, Columns=7000)
    image.file_meta.TransferSyntaxUID = JPEG2000Lossless
    image.PixelData = encapsulate([_frame(7000, exponent=1)])
    decoded = list[Dataset]()
    monkeypatch.setattr(dicom_pixels, "pixel_array", lambda image, **_: decoded.append(image))
    with pytest.raises(ImageRefused, match="precincts and"):
        decode_dicom(dicom(image), DecodingConfig())
    assert not decoded

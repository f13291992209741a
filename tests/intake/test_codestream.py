import struct

import pytest
from PIL import Image

from cxr_platform.intake.codestream import FrameSize, frame_size
from tests.intake.files import jpeg, ramp, saved


@pytest.mark.parametrize(("mode", "components"), [("L", 1), ("RGB", 3)])
@pytest.mark.parametrize("container", ["JPEG", "JPEG2000"])
def test_jpeg_and_jpeg_2000_say_their_size(container: str, mode: str, components: int) -> None:
    frame = saved(Image.fromarray(ramp(60, 80)).convert(mode), container)
    assert frame_size(frame) == FrameSize(width=80, height=60, components=components)


@pytest.mark.parametrize("marker", [0xC3, 0xF7])
def test_lossless_jpeg_and_jpeg_ls_say_their_size(marker: int) -> None:
    frame = b"\xff\xd8\xff\xff" + bytes([marker]) + struct.pack(">HBHHB", 11, 16, 60, 80, 1)
    assert frame_size(frame) == FrameSize(width=80, height=60, components=1)


def test_a_thumbnail_in_a_metadata_segment_is_not_taken_for_the_frame() -> None:
    inner = jpeg(ramp(6, 8))
    outer = jpeg(ramp(60, 80))
    segment = b"\xff\xe5" + struct.pack(">H", len(inner) + 2) + inner
    assert frame_size(outer[:2] + segment + outer[2:]) == FrameSize(width=80, height=60, components=1)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 20, 92])
def test_a_frame_that_is_cut_off_has_no_size(length: int) -> None:
    assert frame_size(jpeg(ramp())[:length]) is None


def test_something_else_has_no_size() -> None:
    assert frame_size(b"RIFF....WEBP") is None

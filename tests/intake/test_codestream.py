import struct

import pytest
from PIL import Image

from cxr_platform.errors import ImageRefused
from cxr_platform.intake.codestream import (
    MAX_CHUNKS,
    MAX_EXIF_SEGMENTS,
    MAX_SCANS,
    MAX_SEGMENTS,
    FrameSize,
    check_chunks,
    check_runs,
    check_scans,
    frame_size,
)
from tests.intake.files import MOST_LINES, chunk, jpeg, lines_run, png, ramp, saved, scan_bomb


@pytest.mark.parametrize(("mode", "components"), [("L", 1), ("RGB", 3)])
@pytest.mark.parametrize("container", ["JPEG", "JPEG2000"])
def test_frame_size_of_jpeg_and_jpeg_2000(container: str, mode: str, components: int) -> None:
    frame = saved(Image.fromarray(ramp(60, 80)).convert(mode), container)
    assert frame_size(frame) == FrameSize(width=80, height=60, components=components)


@pytest.mark.parametrize("marker", [0xC3, 0xF7])
def test_frame_size_of_lossless_jpeg_and_jpeg_ls(marker: int) -> None:
    frame = b"\xff\xd8\xff\xff" + bytes([marker]) + struct.pack(">HBHHB", 11, 16, 60, 80, 1)
    assert frame_size(frame) == FrameSize(width=80, height=60, components=1)


def test_a_thumbnail_in_a_metadata_segment_is_skipped() -> None:
    inner = jpeg(ramp(6, 8))
    outer = jpeg(ramp(60, 80))
    segment = b"\xff\xe5" + struct.pack(">H", len(inner) + 2) + inner
    assert frame_size(outer[:2] + segment + outer[2:]) == FrameSize(width=80, height=60, components=1)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 20, 92])
def test_a_truncated_frame_has_no_size(length: int) -> None:
    assert frame_size(jpeg(ramp())[:length]) is None


def test_another_format_has_no_size() -> None:
    assert frame_size(b"RIFF....WEBP") is None


@pytest.mark.parametrize("scans", [6, MAX_SCANS])
def test_the_scans_of_ordinary_writers_are_accepted(scans: int) -> None:
    check_scans(scan_bomb(40, scans))
    check_scans(jpeg(ramp()))


def test_too_many_scans_are_refused_however_small_the_file() -> None:
    with pytest.raises(ImageRefused, match=f"more than {MAX_SCANS} scans") as refused:
        check_scans(scan_bomb(40, MAX_SCANS + 1))
    assert refused.value.reason == "undecodable"


def test_scan_markers_in_metadata_or_behind_the_end_do_not_count() -> None:
    metadata = b"\xff\xe5" + struct.pack(">H", 2 + 4000) + b"\xff\xda\x00\x02" * 1000
    frame = jpeg(ramp())
    check_scans(frame[:2] + metadata + frame[2:] + b"\xff\xda\x00\x02" * 1000)


@pytest.mark.parametrize("filling", [b"\xff\xfe\x00\x02" * MAX_SEGMENTS, b"\xff" * 2**17, bytes(2**17)])
def test_a_header_of_fill_bytes_or_empty_segments_is_refused(filling: bytes) -> None:
    frame = jpeg(ramp())
    for hostile in (frame[:2] + filling + frame[2:], frame[:2] + filling):
        with pytest.raises(ImageRefused, match="undecodable"):
            check_scans(hostile)


def _exif(segments: int) -> bytes:
    frame = jpeg(ramp())
    segment = b"\xff\xe1" + struct.pack(">H", 8 + 60_000) + b"Exif\0\0" + bytes(60_000)
    return frame[:2] + segment * segments + frame[2:]


def test_the_exif_of_a_camera_is_accepted_and_a_thousand_segments_are_refused() -> None:
    check_scans(_exif(MAX_EXIF_SEGMENTS))
    with pytest.raises(ImageRefused, match="segments of Exif"):
        check_scans(_exif(1000))


@pytest.mark.parametrize("number", [MAX_CHUNKS + 1, 1_500_000])
@pytest.mark.parametrize("end", [False, True])
def test_a_png_of_too_many_chunks_is_refused_wherever_they_are(number: int, end: bool) -> None:
    file = png(ramp())
    at = len(file) - 12 if end else 33
    hostile = file[:at] + chunk(b"abCd", b"") * number + file[at:]

    def check() -> None:
        with pytest.raises(ImageRefused, match="chunks") as refused:
            check_chunks(hostile)
        assert refused.value.reason == "undecodable"

    assert lines_run(check) < MOST_LINES


def test_a_large_png_in_small_chunks_and_one_that_ends_early_are_accepted() -> None:
    file = png(ramp())
    check_chunks(file[:33] + chunk(b"IDAT", bytes(8192)) * 8000 + file[33:])
    for length in (8, 20, 33, 37, len(file) - 4):
        check_chunks(file[:length])


def test_what_follows_the_end_of_a_png_does_not_count() -> None:
    check_chunks(png(ramp()) + chunk(b"abCd", b"") * 2 * MAX_CHUNKS)


def _rle(*segments: bytes) -> bytes:
    offsets = [64 + sum(map(len, segments[:number])) for number in range(len(segments))]
    return struct.pack("<16L", len(segments), *offsets, *[0] * (15 - len(segments))) + b"".join(segments)


def test_runs_of_as_many_bytes_as_pixels_are_accepted() -> None:
    run, literal, nothing = b"\x81\x07", b"\x7f" + bytes(128), b"\x80"
    check_runs(_rle(run * 10, literal * 10 + nothing, (run + literal) * 5), 1280)
    check_runs(b"", 1280)


def test_an_rle_segment_far_longer_than_the_image_is_refused_before_it_is_decoded() -> None:
    hostile = _rle(b"\x81\x07" * 10, b"\x81\x07" * 8_000_000)

    def check() -> None:
        with pytest.raises(ImageRefused, match="an RLE segment") as refused:
            check_runs(hostile, 1280)
        assert refused.value.reason == "undecodable"

    assert lines_run(check) < MOST_LINES

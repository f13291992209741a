import bz2
import gzip
import io
import lzma
import struct
import tarfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cxr_platform.config import DecodingConfig, IntakeConfig
from cxr_platform.errors import ImageRefused
from cxr_platform.intake.candidate import REASONS
from cxr_platform.intake.images import decode, read_image, sniff
from cxr_platform.intake.quality import measure
from tests.intake.files import dicom, jpeg, jpeg_dataset, png, ramp, saved, thorax

CONFIG = IntakeConfig()


def test_read_image_letterboxes_and_describes_the_image() -> None:
    image = read_image(png(ramp(60, 80)), CONFIG)
    assert image.pixels.shape == (200, 200)
    assert image.pixels.dtype == np.uint8
    assert (image.width, image.height, image.container, image.color_mode, image.bit_depth) == (80, 60, "PNG", "L", 8)
    assert image.padding_fraction == 0.25
    assert (image.view, image.patient) == (None, None)


def test_mean_and_deviation_ignore_the_padding() -> None:
    image = read_image(png(np.full((50, 100), 128, np.uint8)), CONFIG)
    assert image.mean == pytest.approx(128 / 255)
    assert image.std == 0


def test_quality_is_measured_without_the_padding() -> None:
    image = read_image(png(ramp(60, 80)), CONFIG)
    assert image.quality == measure(image.pixels[25:175], 80, 60)


def test_png_jpeg_and_dicom_of_one_image_give_the_same_pixels() -> None:
    from_png, from_dicom, from_jpeg = (read_image(write(thorax()), CONFIG).pixels for write in (png, dicom, jpeg))
    np.testing.assert_array_equal(from_png, from_dicom)
    assert np.abs(from_png.astype(int) - from_jpeg).max() <= 8


def test_the_profile_sets_the_size() -> None:
    image = read_image(png(thorax()), IntakeConfig(decoding=DecodingConfig(image_size=64)))
    assert image.pixels.shape == (64, 64)


def test_a_poor_image_is_read_because_quality_is_judged_later() -> None:
    assert read_image(png(np.zeros((20, 90), np.uint8)), CONFIG).quality.contrast == 0


def test_a_file_that_is_not_an_image_is_refused() -> None:
    with pytest.raises(ImageRefused, match="not-an-image"):
        read_image(b"notes", CONFIG)


DECODING = DecodingConfig()
DICOM = dicom(ramp())
SEEDS = (
    png(ramp()),
    png(Image.fromarray(ramp()).convert("P")),
    jpeg(ramp()),
    DICOM,
    DICOM[132:],
    dicom(jpeg_dataset(ramp(), PhotometricInterpretation="MONOCHROME1")),
)


def _reason(data: bytes, config: DecodingConfig = DECODING) -> str:
    with pytest.raises(ImageRefused) as refused:
        decode(data, config)
    return refused.value.reason


@pytest.mark.parametrize(
    ("data", "container"),
    [(png(ramp()), "PNG"), (jpeg(ramp()), "JPEG"), (DICOM, "DICOM"), (DICOM[132:], "DICOM")],
)
def test_the_content_decides_the_container(data: bytes, container: str) -> None:
    assert sniff(data) == container
    assert decode(data, DECODING).container == container


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
        b"\x00\x00\x00\x01Bud1\x00\x00 \x00\x00\x00",
        b"<html><body>404</body></html>",
        b"\x02\x00",
        *(saved(ramp(), container) for container in ("GIF", "BMP", "TIFF", "WEBP", "JPEG2000")),
    ],
    ids=lambda data: repr(data[:8]),
)
def test_other_content_is_not_an_image(data: bytes) -> None:
    assert _reason(data) == "not-an-image"


def tarred(content: bytes) -> bytes:
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            member = tarfile.TarInfo("image.png")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        return file.getvalue()


NIFTI = struct.pack("<i", 348).ljust(344, b"\0") + b"n+1\0"


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (saved(ramp(), "TIFF"), "TIFF image; save it as PNG"),
        (saved(ramp(), "WEBP"), "WebP image; save it as PNG"),
        (saved(ramp(), "BMP"), "BMP image; save it as PNG"),
        (saved(ramp(), "GIF"), "GIF image; save it as PNG"),
        (saved(ramp(), "JPEG2000"), "JPEG 2000 image; save it as PNG"),
        (saved(ramp(), "JPEG2000", no_jp2=True), "JPEG 2000 image; save it as PNG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC image; save it as PNG"),
        (b"PK\x03\x04\x14\0", "zip archive; unpack it"),
        (gzip.compress(NIFTI), "gzip archive; unpack it"),
        (NIFTI, "NIfTI volume; export the radiograph as DICOM or PNG"),
        (b"%PDF-1.7\n", "PDF document; export the radiograph as DICOM or PNG"),
        (b"", "the file is empty"),
        (b"\0\0\0\x18ftypheif\0\0\0\0", "HEIC image; save it as PNG"),
        (b"\0\0\0\x18ftyphevx\0\0\0\0", "HEIC image; save it as PNG"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC image; save it as PNG"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "AVIF image; save it as PNG"),
        (b"\0\0\0\x20ftypavif\0\0\0\0", "AVIF image; save it as PNG"),
        (b"8BPS\0\x01" + bytes(20), "Photoshop document; save it as PNG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG drawing; save it as PNG"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- x -->\n<svg width='9'/>", "SVG drawing; save it as PNG"),
        (
            b"<!DOCTYPE svg PUBLIC '-//W3C//DTD SVG 1.1//EN'>\n<svg >",
            "SVG drawing; save it as PNG",
        ),
        (tarred(b"image"), "tar archive; unpack it"),
        (bz2.compress(b"image"), "bzip2 archive; unpack it"),
        (bz2.compress(b""), "bzip2 archive; unpack it"),
        (lzma.compress(b"image"), "xz archive; unpack it"),
        (b"\n<!DOCTYPE html>\n<html>", "HTML page; download the image again"),
        (b"<!doctype HTML>", "HTML page; download the image again"),
        (b"<HTML lang='en'>", "HTML page; download the image again"),
        (b"notes", "the content begins with b'notes'"),
        (b"BMI,age,sex\n24,60,M\n25,70,F\n", "the content begins with b'BMI,age,sex\\n24,6'"),
        (b"<htmlx", "the content begins with b'<htmlx'"),
    ],
)
def test_a_format_that_is_not_read_is_named_with_what_to_do(data: bytes, detail: str) -> None:
    with pytest.raises(ImageRefused) as refused:
        decode(data, DECODING)
    assert (refused.value.reason, refused.value.detail) == ("not-an-image", detail)


def test_more_bytes_than_the_limit_are_too_large_whatever_the_content() -> None:
    assert _reason(b"text" * 10, DecodingConfig(max_bytes=39)) == "too-large"
    assert _reason(png(ramp()), DecodingConfig(max_bytes=39)) == "too-large"


@pytest.mark.parametrize("data", [png(ramp()), jpeg(ramp()), DICOM])
def test_more_pixels_than_the_limit_are_too_large_in_every_container(data: bytes) -> None:
    assert _reason(data, DecodingConfig(max_pixels=60 * 80 - 1)) == "too-large"


@settings(max_examples=300)
@given(
    seed=st.sampled_from(SEEDS),
    cut=st.floats(0.01, 1) | st.just(1.0),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8),
)
def test_a_damaged_file_is_decoded_or_refused_with_a_reason(
    seed: bytes, cut: float, changes: list[tuple[float, int]]
) -> None:
    data = bytearray(seed[: max(1, int(len(seed) * cut))])
    for place, value in changes:
        data[int(len(data) * place**3)] = value  # more of them in the headers
    try:
        outcome = str(decode(bytes(data), DECODING).values.ndim)
    except ImageRefused as refused:
        outcome = refused.reason
    assert outcome in {"2", *REASONS}

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from cxr_platform.config import DecodingConfig
from cxr_platform.errors import ImageRefused
from cxr_platform.intake import raster
from cxr_platform.intake.letterbox import letterbox
from cxr_platform.intake.raster import decode_raster
from tests.intake.files import MOST_LINES, chunk, jpeg, lines_run, png, ramp, scan_bomb

CONFIG = DecodingConfig()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P"])
def test_the_same_image_in_every_png_mode_is_the_same_grey(mode: str) -> None:
    image = decode_raster(png(Image.fromarray(ramp()).convert(mode)), "PNG", CONFIG)
    np.testing.assert_array_equal(image.values, ramp())
    assert (image.color_mode, image.bit_depth, image.container) == (mode, 8, "PNG")


def test_a_one_bit_png_is_black_and_white() -> None:
    image = decode_raster(png(Image.fromarray(ramp()).convert("1")), "PNG", CONFIG)
    assert set(np.unique(image.values)) == {0, 255}
    assert (image.color_mode, image.bit_depth) == ("1", 1)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_of_every_mode_gives_the_grey_of_the_image(mode: str) -> None:
    image = decode_raster(jpeg(Image.fromarray(ramp()).convert("RGB").convert(mode)), "JPEG", CONFIG)
    assert np.abs(image.values.astype(int) - ramp()).max() <= 3
    assert (image.color_mode, image.bit_depth) == (mode, 8)


def test_colour_becomes_grey_by_luma() -> None:
    red = np.zeros((20, 20, 3), np.uint8)
    red[..., 0] = 255
    assert decode_raster(png(red), "PNG", CONFIG).values[0, 0] == 76


def test_alpha_is_composited_on_black() -> None:
    white = np.full((4, 3, 4), 255, np.uint8)
    white[:, :, 3] = [0, 128, 255]
    np.testing.assert_array_equal(decode_raster(png(white), "PNG", CONFIG).values[0], [0, 128, 255])


def test_a_palette_entry_marked_transparent_is_black() -> None:
    image = Image.fromarray(ramp()).convert("P")
    image.info["transparency"] = 255
    assert decode_raster(png(image), "PNG", CONFIG).values.max() < 255


def test_sixteen_bits_get_the_percentile_window() -> None:
    values = np.linspace(1000, 5000, 4000).astype(np.uint16).reshape(50, 80)
    image = decode_raster(png(values), "PNG", CONFIG)
    assert (image.bit_depth, image.color_mode) == (16, "I;16")
    assert image.values.min() == 0
    assert image.values.max() == 255
    assert np.median(image.values) == pytest.approx(127.5, abs=1)


def test_sixteen_bits_with_a_transparent_value_keep_their_bits() -> None:
    values = np.linspace(1000, 5000, 4000).astype(np.uint16).reshape(50, 80)
    transparent = png(Image.fromarray(values), transparency=60000)
    image = decode_raster(transparent, "PNG", CONFIG)
    assert image.bit_depth == 16
    np.testing.assert_array_equal(image.values, decode_raster(png(values), "PNG", CONFIG).values)
    values[:10], black = 60000, values.copy()
    black[:10] = 0
    image = decode_raster(png(Image.fromarray(values), transparency=60000), "PNG", CONFIG)
    np.testing.assert_array_equal(image.values, decode_raster(png(black), "PNG", CONFIG).values)


@pytest.mark.parametrize("channels", [3, 4])
def test_sixteen_bit_colour_keeps_its_bits(channels: int) -> None:
    """The values fit into one step of 8 bits, of which Pillow's conversion would leave one grey."""
    grey = np.linspace(30000, 30200, 4000).reshape(50, 80).astype(np.uint16)
    colour = np.dstack([grey] * 3 + [np.full_like(grey, 65535)] * (channels - 3))
    data = cv2.imencode(".png", colour)[1].tobytes()
    image = decode_raster(data, "PNG", CONFIG)
    assert image.bit_depth == 16
    np.testing.assert_allclose(image.values, decode_raster(png(grey), "PNG", CONFIG).values, atol=0.5)
    with pytest.raises(ImageRefused, match="undecodable"):
        decode_raster(data[: len(data) // 2], "PNG", CONFIG)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": "4:2:0"}])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_that_lacks_only_its_end_marker_is_taken(mode: str, options: dict[str, Any]) -> None:
    data = jpeg(Image.fromarray(NOISE).convert(mode), **options)
    for cut in (1, 2):
        image = decode_raster(data[:-cut], "JPEG", CONFIG)
        np.testing.assert_array_equal(image.values, decode_raster(data, "JPEG", CONFIG).values)
    for missing in (30, len(data) // 4):
        with pytest.raises(ImageRefused, match="undecodable"):
            decode_raster(data[:-missing], "JPEG", CONFIG)


def test_the_exif_orientation_turns_the_image_upright() -> None:
    exif = Image.Exif()
    exif[274] = 6  # the camera was turned by 90 degrees
    image = decode_raster(jpeg(ramp(60, 80), exif=exif), "JPEG", CONFIG)
    assert image.values.shape == (80, 60)
    assert image.values[0].mean() < 10 < 245 < image.values[-1].mean()


@pytest.mark.parametrize("side", [8_000, 9_800, 30_000])
def test_too_many_pixels_in_the_header_are_refused_before_any_is_decoded(side: int) -> None:
    """The file has no pixels: decoding it would be refused as undecodable."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    with pytest.raises(ImageRefused) as refused:
        decode_raster(_png(header), "PNG", CONFIG)
    assert refused.value.reason == "too-large"


def _png(header: bytes, compressed: bytes = b"", before: bytes = b"", after: bytes = b"") -> bytes:
    body = before + chunk(b"IDAT", compressed) + after
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("colour_type", "side", "fits"),
    [(6, 5_100, False), (6, 4_900, True), (4, 5_100, False), (2, 5_800, False), (0, 7_000, True)],
)
def test_sixteen_bits_of_several_channels_count_as_what_they_take(colour_type: int, side: int, fits: bool) -> None:
    """The file has no pixels, so that one which fits is refused as undecodable."""
    with pytest.raises(ImageRefused) as refused:
        decode_raster(_png(struct.pack(">IIBBBBB", side, side, 16, colour_type, 0, 0, 0)), "PNG", CONFIG)
    assert refused.value.reason == ("undecodable" if fits else "too-large")


HOSTILE = {
    "empty chunks before the pixels": lambda: (png(ramp())[:33], chunk(b"abCd", b"") * 1_500_000, png(ramp())[33:]),
    "empty chunks behind the pixels": lambda: (png(ramp())[:-12], chunk(b"abCd", b"") * 1_500_000, png(ramp())[-12:]),
    "empty pixels": lambda: (png(ramp())[:33], chunk(b"IDAT", b"") * 1_500_000, png(ramp())[33:]),
    "colour profiles": lambda: (
        png(ramp())[:33],
        chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(2**20 - 1), 9)) * 15_000,
        png(ramp())[33:],
    ),
    "Exif": lambda: (
        jpeg(ramp())[:2],
        (b"\xff\xe1" + struct.pack(">H", 8 + 60_000) + b"Exif\0\0" + bytes(60_000)) * 1000,
        jpeg(ramp())[2:],
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_before_it_is_decoded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow took 1 to 17 seconds for these."""
    data, decoded = b"".join(HOSTILE[name]()), list[tuple[Any, ...]]()
    monkeypatch.setattr(raster, "_decode", lambda *call, **_: decoded.append(call))

    def decode() -> None:
        with pytest.raises(ImageRefused, match="save it again") as refused:
            decode_raster(data, "JPEG" if name == "Exif" else "PNG", CONFIG)
        assert refused.value.reason == "undecodable"

    assert lines_run(decode) < MOST_LINES
    assert not decoded


def test_a_png_with_texts_a_profile_and_an_orientation_is_decoded() -> None:
    """ImageMagick writes a text for each attribute of a DICOM header."""
    exif = Image.Exif()
    exif[0x0112] = 6
    texts = chunk(b"tEXt", b"dcm:PatientSex\0M") * 500 + chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(500)))
    file = png(ramp(), exif=exif)
    np.testing.assert_array_equal(
        decode_raster(file[:33] + texts + file[33:], "PNG", CONFIG).values, np.rot90(ramp(), -1)
    )


NOISE = np.random.default_rng(0).integers(0, 256, (60, 80), dtype=np.uint8)


@pytest.mark.parametrize(("data", "container"), [(png(NOISE), "PNG"), (jpeg(NOISE), "JPEG")])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_undecodable(data: bytes, container: str, share: float) -> None:
    with pytest.raises(ImageRefused) as refused:
        decode_raster(data[: int(len(data) * share)], container, CONFIG)
    assert refused.value.reason == "undecodable"


def test_a_png_is_not_decoded_as_jpeg() -> None:
    with pytest.raises(ImageRefused, match="undecodable"):
        decode_raster(png(ramp()), "JPEG", CONFIG)


def test_a_jpeg_with_too_many_scans_is_refused_before_decoding() -> None:
    with pytest.raises(ImageRefused, match="scans") as refused:
        decode_raster(scan_bomb(40, 300), "JPEG", CONFIG)
    assert refused.value.reason == "undecodable"
    assert decode_raster(scan_bomb(40, 12), "JPEG", CONFIG).values.shape == (40, 40)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(799, 600, (799, 600)), (801, 600, (401, 300)), (1599, 1200, (800, 600)), (3200, 1601, (400, 201))],
)
def test_a_large_jpeg_is_decoded_reduced_but_never_below_twice_the_letterbox(
    height: int, width: int, expected: tuple[int, int]
) -> None:
    image = decode_raster(jpeg(ramp(height, width)), "JPEG", CONFIG)
    assert image.values.shape == expected
    assert (image.height, image.width) == (height, width)


def test_a_reduced_jpeg_differs_little_in_its_letterbox_and_a_png_is_never_reduced() -> None:
    structure = gaussian_filter(np.random.default_rng(0).normal(size=(1700, 1300)), 6)
    pixels = np.clip(128 + 40 * structure / structure.std(), 0, 255).astype(np.uint8)
    whole = np.asarray(Image.open(io.BytesIO(jpeg(pixels))))
    reduced = decode_raster(jpeg(pixels), "JPEG", CONFIG)
    assert reduced.values.shape == (425, 325)
    boxes = [letterbox(values, CONFIG.image_size).pixels.astype(float) for values in (whole, reduced.values)]
    assert np.abs(boxes[0] - boxes[1]).mean() < 0.5
    assert decode_raster(png(pixels), "PNG", CONFIG).values.shape == pixels.shape


def test_a_reduced_and_turned_jpeg_states_the_upright_size_of_the_file() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = decode_raster(jpeg(ramp(1600, 1000), exif=exif), "JPEG", CONFIG)
    assert (image.height, image.width) == (1000, 1600)
    assert image.values.shape == (250, 400)


def test_a_large_jpeg_of_which_pixels_are_missing_is_refused_although_it_is_reduced() -> None:
    data = jpeg(np.random.default_rng(0).integers(0, 256, (1600, 1600), np.uint8))
    assert decode_raster(data[:-2], "JPEG", CONFIG).values.shape == (400, 400)
    with pytest.raises(ImageRefused, match="undecodable"):
        decode_raster(data[:-40], "JPEG", CONFIG)


def test_an_opaque_alpha_channel_changes_nothing() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    opaque = np.dstack([colours, np.full((60, 80), 255, np.uint8)])
    with_alpha, without = (decode_raster(png(pixels), "PNG", CONFIG) for pixels in (opaque, colours))
    np.testing.assert_array_equal(with_alpha.values, without.values)
    assert with_alpha.color_mode == "RGBA"

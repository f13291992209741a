from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from cxr_platform.config import DecodingConfig
from cxr_platform.errors import ImageRefused
from cxr_platform.intake import dicom_pixels
from cxr_platform.intake.dicom import decode_dicom
from cxr_platform.intake.dicom_pixels import stored_values
from tests.intake.files import (
    MOST_LINES,
    dataset,
    dicom,
    item,
    jpeg,
    jpeg_dataset,
    lines_run,
    ramp,
    saved,
    scan_bomb,
)

RANDOM = np.random.default_rng(0)


def _refusal(image: Dataset) -> ImageRefused:
    with pytest.raises(ImageRefused) as refused:
        stored_values(image)
    return refused.value


@pytest.mark.parametrize(
    ("kind", "stored", "low", "high"),
    [("u1", 8, 0, 256), ("u2", 12, 0, 4096), ("u2", 16, 0, 65536), ("i2", 12, -2048, 2048), ("i2", 16, -32768, 32768)],
)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_stored_values_are_exact_whatever_their_sign_and_photometric_interpretation(
    kind: str, stored: int, low: int, high: int, photometric: str
) -> None:
    values = RANDOM.integers(low, high, (31, 21)).astype(kind)
    image = dataset(values, BitsStored=stored, PhotometricInterpretation=photometric)
    image.RescaleSlope, image.RescaleIntercept, image.WindowCenter, image.WindowWidth = 0.5, -1024, 10, 5
    np.testing.assert_array_equal(stored_values(image), values)
    assert image.PhotometricInterpretation == photometric


def test_overlays_are_not_burnt_in() -> None:
    image = dataset(np.full((8, 8), 5, np.uint16))
    image.add_new(0x60000010, "US", 8)
    image.add_new(0x60000011, "US", 8)
    image.add_new(0x60000040, "CS", "G")
    image.add_new(0x60000050, "SS", [1, 1])
    image.add_new(0x60000100, "US", 1)
    image.add_new(0x60000102, "US", 0)
    image.add_new(0x60003000, "OB", b"\xff" * 8)
    assert set(stored_values(image).ravel()) == {5}


def test_colours_keep_their_channels() -> None:
    values = RANDOM.integers(0, 256, (7, 5, 3), dtype=np.uint8)
    np.testing.assert_array_equal(stored_values(dataset(values)), values)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, RLELossless])
def test_lossless_compression_loses_nothing(syntax: str) -> None:
    values = RANDOM.integers(0, 256, (33, 47), dtype=np.uint8)
    image = dataset(values)
    if syntax == RLELossless:
        image.compress(RLELossless, encoding_plugin="pydicom")  # that of GDCM crashes on odd widths
    else:
        image.file_meta.TransferSyntaxUID = syntax
        image.PixelData = encapsulate([saved(values, "JPEG2000", no_jp2=True)])
    np.testing.assert_array_equal(stored_values(image), values)


def test_pixel_data_that_are_too_short_are_refused() -> None:
    image = dataset(np.zeros((64, 64), np.uint16))
    image.PixelData = image.PixelData[:-10]
    assert "8,182 bytes of pixel data, the header asks for 8,192" in _refusal(image).detail


def test_a_compressed_frame_of_another_size_than_the_header_is_refused_before_it_is_decoded() -> None:
    image = jpeg_dataset(ramp())
    image.PixelData = encapsulate([jpeg(np.zeros((6000, 6000), np.uint8))])
    assert _refusal(image).reason == "undecodable"
    assert "width=6000" in _refusal(image).detail


def test_a_compressed_frame_of_very_many_scans_is_refused() -> None:
    image = jpeg_dataset(np.zeros((40, 40), np.uint8))
    image.PixelData = encapsulate([scan_bomb(40, 300)])
    assert "scans" in _refusal(image).detail


def test_a_compressed_frame_that_is_cut_off_is_undecodable() -> None:
    image = jpeg_dataset(ramp())
    image.PixelData = encapsulate([jpeg(ramp())[:200]])
    assert _refusal(image).reason == "undecodable"


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "YBR_FULL_422"])
def test_a_baseline_jpeg_that_lacks_only_its_end_marker_is_whole(photometric: str) -> None:
    values = np.random.default_rng(1).integers(0, 256, (61, 83), dtype=np.uint8)
    if photometric != "MONOCHROME2":
        values = np.dstack([values] * 3)
    image, frame = jpeg_dataset(values, PhotometricInterpretation=photometric), jpeg(values)
    whole = stored_values(image)
    for cut in (1, 2):
        image.PixelData = encapsulate([frame[:-cut]])
        np.testing.assert_array_equal(stored_values(image), whole)
    for missing in (30, len(frame) // 4):
        image.PixelData = encapsulate([frame[:-missing]])
        assert _refusal(image).reason == "undecodable"


def test_the_stored_bits_may_begin_above_the_lowest_one() -> None:
    values = RANDOM.integers(-2048, 2048, (9, 11)).astype(np.int16)
    image = dataset(values, BitsStored=12, HighBit=15)
    image.PixelData = ((values << 4) | 5).astype(np.int16).tobytes()
    np.testing.assert_array_equal(stored_values(image), values)


def test_a_jpeg2000_stream_of_eight_bits_in_sixteen_allocated_is_whole() -> None:
    values = RANDOM.integers(0, 256, (64, 64), dtype=np.uint8)
    image = dataset(values.astype(np.uint16), BitsStored=8)
    image.file_meta.TransferSyntaxUID = JPEG2000Lossless
    image.PixelData = encapsulate([saved(values, "JPEG2000", no_jp2=True)])
    np.testing.assert_array_equal(stored_values(image), values)


def test_without_a_decoder_the_refusal_names_the_transfer_syntax(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_pixels, "PLUGINS", ())
    monkeypatch.setattr(dicom_pixels, "find_spec", lambda _: None)
    assert "JPEG Baseline (Process 1): no decoder reads them" in _refusal(jpeg_dataset(ramp())).detail


def test_big_endian_data_are_read() -> None:
    from pydicom.uid import ExplicitVRBigEndian

    values = RANDOM.integers(0, 4096, (9, 11)).astype(np.uint16)
    image = dataset(values)
    image.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    image.PixelData = values.astype(">u2").tobytes()
    np.testing.assert_array_equal(stored_values(image), values)


def test_threads_decode_the_same_values() -> None:
    image = dicom(jpeg_dataset(ramp(200, 300)))
    alone = decode_dicom(image, DecodingConfig()).values
    with ThreadPoolExecutor(8) as pool:
        for decoded in pool.map(lambda _: decode_dicom(image, DecodingConfig()), range(24)):
            np.testing.assert_array_equal(decoded.values, alone)


def _encapsulated(data: bytes, syntax: str = JPEGBaseline8Bit) -> Dataset:
    """An object whose compressed pixel data have a stated length: their fragments are not counted while it is read."""
    image = jpeg_dataset(ramp())
    image.file_meta.TransferSyntaxUID = syntax
    image.PixelData = data
    return image


@pytest.mark.parametrize(
    ("message", "data"),
    [
        ("fragments", item(b"") * 2_000_000),
        ("Basic Offset Table", item(bytes(4 * 4_000_000)) + item(jpeg(ramp()))),
    ],
)
@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, RLELossless])
def test_fragments_and_offsets_far_beyond_those_of_one_frame_are_refused_before_they_are_read(
    message: str, data: bytes, syntax: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, read = _encapsulated(data, syntax), list[bytes]()
    monkeypatch.setattr(dicom_pixels, "get_frame", lambda encapsulated, *_, **__: read.append(encapsulated))

    def decode() -> None:
        refusal = _refusal(image)
        assert (refusal.reason, message in refusal.detail) == ("undecodable", True)

    assert lines_run(decode) < MOST_LINES
    assert not read


def test_a_frame_in_a_thousand_fragments_with_the_offsets_of_a_series_is_decoded() -> None:
    frame = jpeg(np.random.default_rng(0).integers(0, 256, (60, 80), np.uint8))
    parts = [frame[at : at + 4] for at in range(0, len(frame), 4)]
    assert len(parts) > 1000
    data = item(b"") + b"".join(map(item, parts))
    expected = stored_values(_encapsulated(item(b"") + item(frame)))
    np.testing.assert_array_equal(stored_values(_encapsulated(data)), expected)
    series = item(np.array([0, *range(10_000, 20_000)], "<u4").tobytes()) + item(frame)
    np.testing.assert_array_equal(stored_values(_encapsulated(series)), expected)


def test_an_rle_bomb_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = list[Dataset]()
    image = dataset(ramp())
    image.compress(RLELossless, encoding_plugin="pydicom")
    np.testing.assert_array_equal(stored_values(image), ramp())
    header = np.zeros(16, "<u4")
    header[:2] = 1, 64
    image.PixelData = encapsulate([header.tobytes() + b"\x81\x07" * 8_000_000])
    monkeypatch.setattr(dicom_pixels, "pixel_array", lambda image, **_: decoded.append(image))

    def decode() -> None:
        refusal = _refusal(image)
        assert (refusal.reason, "RLE segment" in refusal.detail) == ("undecodable", True)

    assert lines_run(decode) < MOST_LINES
    assert not decoded


def test_colours_of_many_bits_count_as_what_they_take() -> None:
    colours = dataset(np.zeros((2, 2, 3), np.uint16), Rows=6_000, Columns=6_000)
    with pytest.raises(ImageRefused, match="of 6 bytes") as refused:
        decode_dicom(dicom(colours), DecodingConfig())
    assert refused.value.reason == "too-large"

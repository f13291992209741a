from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, RLELossless

from cxr_platform.config import DecodingConfig
from cxr_platform.errors import ImageRefused
from cxr_platform.intake.dicom import decode_dicom
from cxr_platform.intake.dicom_pixels import stored_values
from tests.intake.files import dataset, dicom, jpeg, jpeg_dataset, ramp, saved, scan_bomb

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
def test_stored_values_come_back_exactly_whatever_their_sign_and_label(
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
        image.compress(RLELossless)
    else:
        image.file_meta.TransferSyntaxUID = syntax
        image.PixelData = encapsulate([saved(values, "JPEG2000", no_jp2=True)])
    np.testing.assert_array_equal(stored_values(image), values)


def test_pixel_data_that_are_too_short_are_refused_and_not_read_past_their_end() -> None:
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


def test_big_endian_data_are_read() -> None:
    from pydicom.uid import ExplicitVRBigEndian

    values = RANDOM.integers(0, 4096, (9, 11)).astype(np.uint16)
    image = dataset(values)
    image.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    image.PixelData = values.astype(">u2").tobytes()
    np.testing.assert_array_equal(stored_values(image), values)


def test_many_threads_read_the_same() -> None:
    image = dicom(jpeg_dataset(ramp(200, 300)))
    alone = decode_dicom(image, DecodingConfig()).values
    with ThreadPoolExecutor(8) as pool:
        for decoded in pool.map(lambda _: decode_dicom(image, DecodingConfig()), range(24)):
            np.testing.assert_array_equal(decoded.values, alone)

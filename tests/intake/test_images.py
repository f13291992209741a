import numpy as np
import pytest

from cxr_platform.config import DecodingConfig, IntakeConfig
from cxr_platform.errors import ImageRefused
from cxr_platform.intake.images import read_image
from cxr_platform.intake.quality import measure
from tests.intake.files import dicom, jpeg, png, ramp, thorax

CONFIG = IntakeConfig()


def test_an_image_is_letterboxed_and_described() -> None:
    image = read_image(png(ramp(60, 80)), CONFIG)
    assert image.pixels.shape == (200, 200)
    assert image.pixels.dtype == np.uint8
    assert (image.width, image.height, image.container, image.color_mode, image.bit_depth) == (80, 60, "PNG", "L", 8)
    assert image.padding_fraction == 0.25
    assert (image.view, image.patient) == (None, None)


def test_mean_and_deviation_leave_the_padding_out() -> None:
    image = read_image(png(np.full((50, 100), 128, np.uint8)), CONFIG)
    assert image.mean == pytest.approx(128 / 255)
    assert image.std == 0


def test_the_quality_is_that_of_the_image_without_its_padding() -> None:
    image = read_image(png(ramp(60, 80)), CONFIG)
    assert image.quality == measure(image.pixels[25:175], 80, 60)


def test_png_jpeg_and_dicom_of_one_image_give_the_same_pixels() -> None:
    from_png, from_dicom, from_jpeg = (read_image(write(thorax()), CONFIG).pixels for write in (png, dicom, jpeg))
    np.testing.assert_array_equal(from_png, from_dicom)
    assert np.abs(from_png.astype(int) - from_jpeg).max() <= 8


def test_the_size_is_that_of_the_profile() -> None:
    image = read_image(png(thorax()), IntakeConfig(decoding=DecodingConfig(image_size=64)))
    assert image.pixels.shape == (64, 64)


def test_a_poor_image_is_read_all_the_same_because_judging_is_another_step() -> None:
    assert read_image(png(np.zeros((20, 90), np.uint8)), CONFIG).quality.contrast == 0


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(ImageRefused, match="not-an-image"):
        read_image(b"notes", CONFIG)

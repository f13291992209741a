import numpy as np
import pytest

from cxr_platform.config import DecodingConfig, IntakeConfig
from cxr_platform.errors import ImageRefused
from cxr_platform.intake.films import read_film
from cxr_platform.intake.quality import measure
from tests.intake.files import dicom, jpeg, png, ramp, thorax

CONFIG = IntakeConfig()


def test_a_film_is_letterboxed_and_described() -> None:
    film = read_film(png(ramp(60, 80)), CONFIG)
    assert film.pixels.shape == (200, 200)
    assert film.pixels.dtype == np.uint8
    assert (film.width, film.height, film.container, film.color_mode, film.bit_depth) == (80, 60, "PNG", "L", 8)
    assert film.padding_fraction == 0.25
    assert (film.view, film.patient) == (None, None)


def test_mean_and_deviation_leave_the_padding_out() -> None:
    film = read_film(png(np.full((50, 100), 128, np.uint8)), CONFIG)
    assert film.mean == pytest.approx(128 / 255)
    assert film.std == 0


def test_the_quality_is_that_of_the_film_without_its_padding() -> None:
    film = read_film(png(ramp(60, 80)), CONFIG)
    assert film.quality == measure(film.pixels[25:175], 80, 60)


def test_png_jpeg_and_dicom_of_one_film_give_the_same_pixels() -> None:
    from_png, from_dicom, from_jpeg = (read_film(write(thorax()), CONFIG).pixels for write in (png, dicom, jpeg))
    np.testing.assert_array_equal(from_png, from_dicom)
    assert np.abs(from_png.astype(int) - from_jpeg).max() <= 8


def test_the_size_is_that_of_the_profile() -> None:
    film = read_film(png(thorax()), IntakeConfig(decoding=DecodingConfig(image_size=64)))
    assert film.pixels.shape == (64, 64)


def test_a_poor_film_is_read_all_the_same_because_judging_is_another_step() -> None:
    assert read_film(png(np.zeros((20, 90), np.uint8)), CONFIG).quality.contrast == 0


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(ImageRefused, match="not-an-image"):
        read_film(b"notes", CONFIG)

import numpy as np
import pytest

from cxr_platform.config import DecodingConfig
from cxr_platform.errors import ImageRefused
from cxr_platform.intake.grey_image import check_pixels, percentile_window, scale


def test_scale_maps_black_to_0_and_white_to_255_and_clips_the_rest() -> None:
    np.testing.assert_array_equal(scale(np.array([-5, 10, 20, 30, 99]), 10, 30), [0, 0, 127.5, 255, 255])


def test_scale_inverts_if_white_is_below_black() -> None:
    np.testing.assert_array_equal(scale(np.array([10, 30]), 30, 10), [255, 0])


@pytest.mark.parametrize("white", [7.0, float("nan")])
def test_scale_of_an_empty_range_is_black(white: float) -> None:
    np.testing.assert_array_equal(scale(np.array([3, 7, 9]), 7, white), [0, 0, 0])


def test_the_percentile_window_ignores_the_brightest_and_the_darkest_pixels() -> None:
    values = np.concatenate([[0, 60_000], np.linspace(1000, 2000, 2000)])
    grey = percentile_window(values, DecodingConfig(percentile_low=1, percentile_high=99))
    assert grey[0] == 0
    assert grey[1] == 255
    assert np.median(grey) == pytest.approx(127.5, abs=1)


def test_more_pixels_than_the_limit_are_too_large() -> None:
    config = DecodingConfig(max_pixels=100)
    check_pixels(10, 10, config)
    with pytest.raises(ImageRefused) as refused:
        check_pixels(101, 1, config)
    assert refused.value.reason == "too-large"


def test_a_header_without_pixels_is_undecodable() -> None:
    with pytest.raises(ImageRefused) as refused:
        check_pixels(0, 10, DecodingConfig())
    assert refused.value.reason == "undecodable"

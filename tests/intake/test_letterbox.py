import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from cxr_platform.intake.letterbox import letterbox, resize_images


@pytest.mark.parametrize(
    ("shape", "box"),
    [((300, 300), (0, 0, 200, 200)), ((100, 400), (0, 75, 200, 125)), ((400, 100), (75, 0, 125, 200))],
)
def test_the_aspect_is_kept_and_the_image_is_centred_on_black(shape: tuple[int, int], box: tuple[int, ...]) -> None:
    result = letterbox(np.full(shape, 200, np.uint8), 200)
    assert result.box == box
    assert result.pixels.shape == (200, 200)
    assert result.pixels.dtype == np.uint8
    assert set(np.unique(result.content)) == {200}
    assert result.pixels.astype(int).sum() == result.content.astype(int).sum()
    assert result.padding_fraction == pytest.approx((result.pixels == 0).mean())


def test_the_larger_part_of_odd_padding_is_at_the_bottom() -> None:
    assert letterbox(np.zeros((99, 200), np.uint8), 200).box == (0, 50, 200, 149)


@pytest.mark.parametrize("side", [601, 900, 2000])
def test_detail_finer_than_a_pixel_does_not_alias(side: int) -> None:
    stripes = np.zeros((side, side), np.uint8)
    stripes[:, ::2] = 254
    inner = letterbox(stripes, 200).pixels[5:-5, 5:-5]
    assert np.abs(inner.astype(int) - 127).max() <= 2


def test_a_small_image_is_enlarged() -> None:
    image = np.zeros((50, 50), np.uint8)
    image[:, 25:] = 255
    result = letterbox(image, 200)
    assert result.padding_fraction == 0
    assert result.pixels[:, :90].max() < 30
    assert result.pixels[:, 110:].min() > 225


def test_overshoot_at_an_edge_is_clipped_not_wrapped() -> None:
    image = np.full((400, 400), 255, np.float32)
    image[:, :200] = 0
    result = letterbox(image, 200)
    assert result.pixels[:, 110:].min() > 200


def test_float_and_byte_values_give_the_same_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 256, (317, 211), dtype=np.uint8)
    difference = letterbox(image, 200).pixels.astype(int) - letterbox(image.astype(np.float32), 200).pixels
    assert np.abs(difference).max() <= 1


def test_an_image_of_one_row_becomes_a_square() -> None:
    result = letterbox(np.full((1, 1000), 9, np.uint8), 200)
    assert result.content.shape == (1, 200)


def test_down_sampling_averages_instead_of_skipping_pixels() -> None:
    stripes = np.tile(np.array([0, 255], "uint8"), (1, 200, 100))
    small = resize_images(stripes, 50)
    assert abs(small[0, 10:40, 10:40].astype(int) - 127).max() < 12


def test_images_of_the_right_size_are_left_alone() -> None:
    images = np.zeros((2, 50, 50), "uint8")
    assert resize_images(images, 50) is images


@pytest.mark.parametrize("shape", [(1024, 1024), (801, 1203), (3001, 2047)])
def test_a_large_image_that_is_reduced_first_differs_little_and_is_not_shifted(shape: tuple[int, int]) -> None:
    noise = gaussian_filter(np.random.default_rng(0).normal(size=shape), max(shape) / 150)
    image = np.clip(128 + 40 * noise / noise.std(), 0, 255).astype(np.uint8)
    reduced = letterbox(image, 200)
    left, top, right, bottom = reduced.box
    whole = Image.fromarray(image.astype(np.float32)).resize((right - left, bottom - top), Image.Resampling.LANCZOS)
    difference = reduced.content - np.asarray(whole)
    assert np.abs(difference).mean() < 0.6
    assert np.abs(difference[:, -2:]).mean() < 1

import numpy as np
import pytest

from cxr_platform.config import View
from cxr_platform.evaluation.predictions import Array
from cxr_platform.intake.lung_field import lung_fields
from cxr_platform.intake.lung_views import (
    GREY,
    cropped,
    equalised,
    image_views,
    lung_boxes,
    stacked_views,
)

SIZE = 64


def drawn_images(seed: int, count: int = 6) -> Array:
    """Letterboxed images of 32 × 64 pixels: padding at the left and right."""
    images = np.zeros((count, SIZE, SIZE), np.uint8)
    images[:, :, 16:48] = np.random.default_rng(seed).integers(20, 200, (count, SIZE, 32))
    return images


def drawn_masks(count: int = 6) -> Array:
    masks = np.zeros((count, SIZE, SIZE), bool)
    masks[:, 10:50, 20:44] = True
    return masks


SIDES = np.full(6, 100), np.full(6, 200)


def views(view: View, size: int = SIZE) -> Array:
    return image_views(view, drawn_images(5), drawn_masks(), *SIDES, size=size)


def test_a_box_holds_the_lungs() -> None:
    assert lung_boxes(drawn_masks(), *SIDES).tolist() == [[20, 10, 44, 50]] * 6


def test_a_box_does_not_reach_into_the_padding() -> None:
    assert lung_boxes(np.ones((6, SIZE, SIZE), bool), *SIDES).tolist() == [[16, 0, 48, 64]] * 6


def test_a_crop_shows_what_is_in_the_box_alone() -> None:
    images = drawn_images(6)
    images[:, 10:50, 20:44] = 77
    assert set(cropped(images, lung_boxes(drawn_masks(), *SIDES), 32).ravel().tolist()) == {77}


def test_equalised_grey_values_do_not_depend_on_brightness_and_contrast() -> None:
    image = np.random.default_rng(7).integers(0, 100, (32, 32)).astype(np.uint8)
    np.testing.assert_array_equal(equalised(image), equalised(image * 2 + 30))
    assert np.bincount(equalised(image).ravel() // 64, minlength=4) == pytest.approx(256, abs=25)


@pytest.mark.parametrize("at_once", [256, 4])
def test_stacked_views_hide_the_outline_of_the_lungs(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxr_platform.intake.lung_views.AT_ONCE", at_once)
    images, masks = drawn_images(5), lung_fields(*SIDES, SIZE)
    stacked = stacked_views(("lungs", "without-lungs"), images, *SIDES, 32)
    assert stacked.shape == (6, 2, 32, 32)
    for place, view in enumerate(("lungs", "without-lungs")):
        np.testing.assert_array_equal(stacked[:, place], image_views(view, images, masks, *SIDES, size=32))


def test_the_views_of_a_study_hide_what_they_say() -> None:
    images = drawn_images(5)
    np.testing.assert_array_equal(views("whole"), images)
    assert (views("lungs") > 0).mean() > 0.98  # no padding
    control = views("without-lungs")
    assert (control[drawn_masks()] == GREY).all()
    assert len(np.unique(control[:, :8, 16:48])) > 50
    assert not control[:, :, :16].any()  # padding stays black
    assert views("lungs", size=32).shape == (6, 32, 32)


def test_lungs_do_not_change_the_control() -> None:
    images, masks = drawn_images(5), drawn_masks()
    other = np.where(masks, 255 - images, images).astype(np.uint8)
    before, after = (image_views("without-lungs", each, masks, *SIDES, size=SIZE) for each in (images, other))
    np.testing.assert_array_equal(before, after)

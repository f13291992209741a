import numpy as np
import pytest

from cxr_platform.evaluation.predictions import Array
from cxr_platform.intake.lung_field import lung_fields
from cxr_platform.intake.lung_views import (
    GREY,
    cropped,
    equalised,
    image_views,
    lung_boxes,
    mixed,
    stacked_views,
    views_needed,
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
ORIGINS = np.array(["a", "b"] * 3)


def views(view: str, seed: int = 3, size: int = SIZE) -> Array:
    return image_views(view, drawn_images(5), drawn_masks(), *SIDES, ORIGINS, size=size, seed=seed)  # type: ignore[arg-type]


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


def test_mixed_views_repeat_with_the_seed_and_differ_with_another() -> None:
    assert (views("mixed-lungs") == views("mixed-lungs")).all()
    assert (views("mixed-lungs") != views("mixed-lungs", seed=4)).mean() > 0.5


def test_a_mixed_image_takes_over_the_sharpness_of_the_other_origin() -> None:
    rng = np.random.default_rng(8)
    sharp = rng.integers(0, 255, (SIZE, SIZE)).astype(np.uint8)
    ramp = np.linspace(0, 250, SIZE, dtype=np.uint8)
    smooth = np.broadcast_to(ramp, (SIZE, SIZE))
    images = np.stack([sharp] * 4 + [smooth] * 4)
    shown = np.stack(list(mixed(images, np.array(["sharp"] * 4 + ["smooth"] * 4), 1))).astype(float)
    edges = np.abs(np.diff(shown[:4], axis=2)).mean(axis=(1, 2))
    assert edges.min() < 0.9 * np.abs(np.diff(sharp.astype(float), axis=1)).mean()


def test_lungs_with_a_mixed_appearance_need_both_views() -> None:
    assert views_needed(("lungs",), "mixed") == ("lungs", "mixed-lungs")
    assert views_needed(("whole",), "mixed") == ("whole",)
    assert views_needed(("lungs",), "none") == ("lungs",)

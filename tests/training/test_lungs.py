"""Training images of the lung segmenter: phantoms, masks, appearance."""

import keras
import numpy as np
import pytest

from cxr_platform.models.lung_segmenter import PARTS, SIZE
from cxr_platform.progress import NoProgress
from cxr_platform.training.lungs import (
    STORED,
    UNKNOWN,
    LungImages,
    changed_appearance,
    letterboxed_mask,
    masks_of_part,
    phantom_lungs,
    segmentation_loss,
    varied,
)


@pytest.fixture(scope="module")
def phantoms() -> LungImages:
    return phantom_lungs(2, 5, NoProgress())


def test_phantoms_come_with_their_lungs_in_both_meanings(phantoms: LungImages) -> None:
    assert phantoms.pixels.shape == (2, STORED, STORED)
    aerated, whole = phantoms.masks[..., 0], phantoms.masks[..., 1]
    assert (whole >= aerated).all()
    assert (whole.mean(axis=(1, 2)) > aerated.mean(axis=(1, 2))).all()
    inside = [image[mask == 1].mean() for image, mask in zip(phantoms.pixels, aerated, strict=True)]
    between = [image[(w == 1) & (a == 0)].mean() for image, w, a in zip(phantoms.pixels, whole, aerated, strict=True)]
    assert inside < between  # air is darker than the heart


def test_a_mask_has_the_place_of_its_image_in_the_letterbox() -> None:
    mask = letterboxed_mask(np.ones((50, 100), bool), 64)
    assert mask[16:48].all()
    assert mask.sum() == 32 * 64


def test_a_set_with_one_meaning_leaves_the_other_unknown() -> None:
    masks = masks_of_part(np.ones((1, 4, 4), bool), "whole")
    assert (masks[..., PARTS.index("whole")] == 1).all()
    assert (masks[..., PARTS.index("aerated")] == UNKNOWN).all()


def test_masks_move_with_the_image(phantoms: LungImages) -> None:
    bright = np.full((STORED, STORED), 0, np.uint8)
    bright[40:90, 30:60] = 255
    masks = masks_of_part((bright > 0)[None], "whole")[0]
    for seed in range(5):
        image, moved = varied(bright, masks, np.random.default_rng(seed))
        assert (moved[..., PARTS.index("aerated")] == UNKNOWN).all()
        mask = moved[..., PARTS.index("whole")] == 1
        contrast = image[mask].mean() - image[~mask].mean()
        assert abs(contrast) > 0.2, seed


def test_appearance_differs_and_stays_near_0_to_1(phantoms: LungImages) -> None:
    image = np.asarray(phantoms.pixels[0][:SIZE, :SIZE] / 255, "float32")
    images = np.stack([changed_appearance(image, np.random.default_rng(seed)) for seed in range(20)])
    assert images.min() > -0.7
    assert images.max() < 1.7
    assert images.std(axis=0).mean() > 0.1


def test_the_loss_ignores_what_is_unknown() -> None:
    masks = np.zeros((1, 4, 4, 2), "float32")
    masks[..., 0] = UNKNOWN
    right, other = np.full((1, 4, 4, 2), 0.01, "float32"), np.full((1, 4, 4, 2), 0.01, "float32")
    other[..., 0] = 0.9
    losses = [float(keras.ops.convert_to_numpy(segmentation_loss(masks, p))) for p in (right, other)]
    assert losses[0] == pytest.approx(losses[1])
    other[..., 1] = 0.9
    assert float(keras.ops.convert_to_numpy(segmentation_loss(masks, other))) > losses[0] + 1

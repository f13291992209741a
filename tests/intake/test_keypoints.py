import numpy as np
import pytest

from cxr_platform.intake.keypoints import KEYPOINTS, Keypoints, find_keypoints
from cxr_platform.intake.letterbox import letterbox
from cxr_platform.intake.phantoms.image import ImageKey, draw_image


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """A phantom without its padding."""
    return letterbox((255 * draw_image(ImageKey(1, "Edema", 0, 0), 320).picture).astype(np.uint8), 200).content


def test_keypoints_are_bounded_and_inside_the_image(pixels: np.ndarray) -> None:
    found = find_keypoints(pixels)
    assert 50 < len(found.points) <= KEYPOINTS
    assert found.descriptors.shape == (len(found.points), 128)
    assert found.points.min() >= 0
    assert (found.points < (pixels.shape[1], pixels.shape[0])).all()


def test_positions_are_those_of_the_image_not_of_the_reduced_one() -> None:
    spot = np.zeros((160, 200), np.uint8)
    spot[60:69, 140:149] = 255  # its centre is (144, 64)
    strongest = find_keypoints(spot).points
    assert np.abs(strongest - (144, 64)).max(axis=1).min() < 1


def test_stored_keypoints_come_back_to_a_64th_of_a_pixel(pixels: np.ndarray) -> None:
    found = find_keypoints(pixels)
    stored = found.to_bytes()
    again = Keypoints.from_bytes(stored, found.width)
    assert len(stored) == 132 * len(found.points) <= 13_200
    np.testing.assert_allclose(again.points, found.points, atol=1 / 64)
    np.testing.assert_array_equal(again.descriptors, found.descriptors)
    assert again.width == found.width


def test_an_image_without_keypoints_is_stored_as_no_bytes() -> None:
    even = find_keypoints(np.full((200, 150), 90, np.uint8))
    assert even.to_bytes() == b""
    assert Keypoints.from_bytes(b"", 150).descriptors.shape == (0, 128)

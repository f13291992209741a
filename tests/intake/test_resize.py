import numpy as np

from cxr_platform.intake.resize import resize_images


def test_down_sampling_averages_instead_of_skipping_pixels() -> None:
    stripes = np.tile(np.array([0, 255], "uint8"), (1, 200, 100))
    small = resize_images(stripes, 50)
    assert abs(small[0, 10:40, 10:40].astype(int) - 127).max() < 12


def test_images_of_the_right_size_are_left_alone() -> None:
    images = np.zeros((2, 50, 50), "uint8")
    assert resize_images(images, 50) is images

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cxr_platform.config import AugmentationConfig
from cxr_platform.models.augment import draw_transforms, rotation_and_shift, to_network_input, warp
from tests.conftest import REPOSITORY

SIZE = 65  # odd, so that one pixel is the centre
CENTRE = 32
CONFIG = AugmentationConfig()


def one_transform(degrees: float = 0.0, right: float = 0.0, down: float = 0.0, size: int = SIZE) -> np.ndarray:
    return rotation_and_shift(np.deg2rad([degrees]), np.array([right]), np.array([down]), size)


def warped(image: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """One image (S, S) after `transform` (1, 8)."""
    return np.asarray(warp(image.astype("float32")[None, ..., None], transform))[0, ..., 0]


def dot_at(row: int, column: int) -> np.ndarray:
    image = np.zeros((SIZE, SIZE), "uint8")
    image[row, column] = 200
    return image


def brightest(image: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(image.argmax(), image.shape))


def angles_and_shifts(transforms: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Degrees counter-clockwise (n,), and pixels (n, 2) right and down, by which the centre of the image moves."""
    cos, minus_sin, x0, sin, _, y0 = transforms[:, :6].astype("float64").T
    matrices = np.stack([np.stack([cos, minus_sin], -1), np.stack([sin, cos], -1)], 1)
    centre = (size - 1) / 2
    moved = np.linalg.solve(matrices, (centre - np.stack([x0, y0], -1))[..., None])[..., 0]
    return np.rad2deg(np.arctan2(sin, cos)), moved - centre


def test_the_identity_transform_leaves_images_unchanged() -> None:
    image = np.random.default_rng(1).integers(0, 256, (SIZE, SIZE), "uint8")
    np.testing.assert_array_equal(warped(image, one_transform()), image)


def test_a_shift_moves_the_image_right_and_down() -> None:
    assert brightest(warped(dot_at(20, 30), one_transform(right=3))) == (20, 33)
    assert brightest(warped(dot_at(20, 30), one_transform(down=3))) == (23, 30)
    assert brightest(warped(dot_at(20, 30), one_transform(right=-2, down=5))) == (25, 28)


def test_a_quarter_turn_is_counter_clockwise_as_seen() -> None:
    right_of_the_centre = dot_at(CENTRE, CENTRE + 20)
    assert brightest(warped(right_of_the_centre, one_transform(degrees=90))) == (CENTRE - 20, CENTRE)


def test_ten_degrees_raise_a_point_right_of_the_centre() -> None:
    turned = warped(dot_at(CENTRE, CENTRE + 28), one_transform(degrees=10))
    row, column = brightest(turned)
    assert (CENTRE - row, column - CENTRE) == (round(28 * np.sin(np.deg2rad(10))), round(28 * np.cos(np.deg2rad(10))))


def test_the_shift_comes_after_the_rotation() -> None:
    moved = warped(dot_at(CENTRE, CENTRE), one_transform(degrees=10, right=4, down=-6))
    assert brightest(moved) == (CENTRE - 6, CENTRE + 4)


def test_pixels_from_outside_the_image_are_black() -> None:
    white = np.full((SIZE, SIZE), 255, "uint8")
    moved = warped(white, one_transform(right=6))
    assert not moved[:, :6].any()
    assert (moved[:, 6:] == 255).all()
    assert warped(white, one_transform(degrees=10))[0, 0] == 0
    assert np.asarray(to_network_input(white[None], one_transform(right=6)))[0, 0, 0, 0] == -1


@pytest.mark.parametrize(("size", "most"), [(200, 20.0), (96, 9.6)])
def test_transforms_stay_within_ten_degrees_and_a_tenth_of_the_image(size: int, most: float) -> None:
    angles, shifts = angles_and_shifts(draw_transforms(np.random.default_rng(1), 4000, size, CONFIG), size)
    assert 9.9 < np.abs(angles).max() <= 10 + 1e-4
    assert 0.99 * most < np.abs(shifts).max() <= most + 1e-3
    assert abs(angles.mean()) < 0.5
    assert np.abs(shifts.mean(axis=0)).max() < 0.05 * most


def test_rotation_and_both_shifts_are_drawn_independently() -> None:
    angles, shifts = angles_and_shifts(draw_transforms(np.random.default_rng(1), 4000, 200, CONFIG), 200)
    correlations = np.corrcoef([angles, *shifts.T])[np.triu_indices(3, 1)]
    assert np.abs(correlations).max() < 0.06


def test_no_rotation_and_no_shift_give_the_identity() -> None:
    drawn = draw_transforms(np.random.default_rng(1), 3, SIZE, AugmentationConfig(rotation_degrees=0, shift_fraction=0))
    np.testing.assert_array_equal(drawn, np.repeat(one_transform(), 3, axis=0))


def test_the_seed_determines_the_transforms() -> None:
    first, again, other = (draw_transforms(np.random.default_rng(seed), 5, 200, CONFIG) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.isclose(first[:, 2], other[:, 2]).any()
    assert (first.shape, first.dtype) == ((5, 8), np.float32)


def test_images_become_three_equal_channels_from_minus_one_to_one() -> None:
    grey = np.arange(256, dtype="uint8").reshape(1, 16, 16)
    images = np.asarray(to_network_input(grey))
    assert (images.shape, images.dtype) == ((1, 16, 16, 3), np.float32)
    np.testing.assert_allclose(images[0, ..., 0], grey[0] / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(images[..., 0], images[..., 1])
    np.testing.assert_array_equal(images[..., 0], images[..., 2])


ON_JAX = """
import sys, jax, keras, numpy as np
from cxr_platform.models.augment import to_network_input
assert keras.backend.backend() == "jax", keras.backend.backend()
given = np.load(sys.argv[1])
np.save(sys.argv[2], np.asarray(jax.jit(to_network_input)(given["images"], given["transforms"])))
"""


def test_both_backends_give_the_same_warp_when_compiled(tmp_path: Path) -> None:
    pytest.importorskip("jax", reason="the JAX backend is not installed")
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    rng = np.random.default_rng(4)
    coarse = rng.integers(0, 256, (16, 12, 12)).astype("uint8")
    images = np.asarray(tf.image.resize(coarse[..., None], (96, 96), "bicubic"))[..., 0].clip(0, 255).astype("uint8")
    transforms = np.concatenate([draw_transforms(rng, 15, 96, CONFIG), one_transform(size=96)])
    np.savez(tmp_path / "given.npz", images=images, transforms=transforms)
    command = [sys.executable, "-c", ON_JAX, str(tmp_path / "given.npz"), str(tmp_path / "jax.npy")]
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    on_tensorflow = np.asarray(tf.function(to_network_input)(images, transforms))
    grey_levels = np.abs(np.load(tmp_path / "jax.npy") - on_tensorflow) * 127.5
    assert grey_levels.max() < 1

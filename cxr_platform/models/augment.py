"""Random rotation and shift (§2.1.4): parameters are drawn on the host, images are warped on the device.

With NumPy's generator a seed gives the same images on every Keras backend; the warp runs inside the compiled step
(`keras.ops.image.affine_transform`, https://keras.io/api/ops/image/).
"""

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from cxr_platform.config import AugmentationConfig


def draw_transforms(rng: np.random.Generator, count: int, input_size: int, config: AugmentationConfig) -> NDArray[Any]:
    """Draw transforms (count, 8) float32 for `warp`: up to ±`rotation_degrees` about the centre, then a shift.

    The shift is up to ±`shift_fraction` of `input_size` in each direction (20 of the paper's 200 pixels).
    """
    angles = np.deg2rad(rng.uniform(-config.rotation_degrees, config.rotation_degrees, count))
    shifts = rng.uniform(-config.shift_fraction, config.shift_fraction, (count, 2)) * input_size
    return rotation_and_shift(angles, shifts[:, 0], shifts[:, 1], input_size)


def rotation_and_shift(angles: NDArray[Any], right: NDArray[Any], down: NDArray[Any], input_size: int) -> NDArray[Any]:
    """Return projective transforms (n, 8) float32 from output to input coordinates.

    `angles` are in radians, counter-clockwise as seen; `right` and `down` are the pixels by which the image moves.
    """
    centre = (input_size - 1) / 2
    cos, sin = np.cos(angles), np.sin(angles)
    x0 = centre - cos * (centre + right) + sin * (centre + down)
    y0 = centre - sin * (centre + right) - cos * (centre + down)
    zero = np.zeros_like(cos)
    transforms: NDArray[Any] = np.stack([cos, -sin, x0, sin, cos, y0, zero, zero], axis=1).astype("float32")
    return transforms


def warp(images: Any, transforms: Any) -> Any:
    """Warp images (B, S, S, 1) float by `transforms` (B, 8); pixels from outside the image are black (0)."""
    return keras.ops.image.affine_transform(
        images, transforms, interpolation="bilinear", fill_mode="constant", fill_value=0.0, data_format="channels_last"
    )


def to_network_input(images: Any, transforms: Any | None = None) -> Any:
    """Warp uint8 images (B, S, S), and return them as float32 (B, S, S, 3) in −1…1, as the ImageNet weights expect."""
    x = keras.ops.cast(images, "float32")[..., None]
    if transforms is not None:
        x = warp(x, transforms)
    return keras.ops.repeat(x / 127.5 - 1.0, 3, axis=-1)

import io

import numpy as np
from PIL import Image

from cxr_platform.evaluation.explained import explained_picture

IMAGE = np.random.default_rng(0).integers(0, 255, (32, 32)).astype("uint8")
FIELD = np.zeros((32, 32), bool)
FIELD[8:24, 8:24] = True
PROBABILITIES = np.array([0.7, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05])


def drawn(heat: np.ndarray, *, synthetic: bool = False) -> np.ndarray:
    png = explained_picture(IMAGE, heat, FIELD, PROBABILITIES, "Covid19, source east", synthetic=synthetic)
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_heat_outline_and_bars_are_drawn():
    cold, hot = drawn(np.zeros((8, 8))), drawn(np.ones((8, 8)))

    assert cold.shape == hot.shape
    assert np.abs(cold - hot).max() > 100
    for colour in ((0x56, 0xB4, 0xE9), (0x00, 0x72, 0xB2)):  # outline, bars
        assert (np.abs(cold - colour).max(axis=-1) < 8).any()


def test_drawn_images_are_stamped():
    assert (np.abs(drawn(np.zeros((8, 8)), synthetic=True) - (0x7A, 0, 0x19)).max(axis=-1) < 8).any()
    assert not (np.abs(drawn(np.zeros((8, 8))) - (0x7A, 0, 0x19)).max(axis=-1) < 8).any()

from dataclasses import replace

import numpy as np
import pytest

from cxr_platform.intake.phantoms.anatomy import draw_exposure
from cxr_platform.intake.phantoms.exposure import expose
from cxr_platform.intake.phantoms.plane import Plane

PLANE = Plane(96, 96, 0.35, (0.0, 12.0))
SETTINGS = replace(draw_exposure(np.random.default_rng(0)), photons=5e4, equalising=0.2)


def attenuation() -> np.ndarray:
    """A body of 4 with a lung of 2 and a bone of 3 in it, and nothing beside it."""
    values = np.zeros((96, 96), np.float32)
    values[:, 16:80] = 4.0
    values[20:70, 22:46] = 2.0
    values[40:44, 22:46] = 3.0
    return values


def expose_with(**changes: float) -> np.ndarray:
    return expose(attenuation(), PLANE, replace(SETTINGS, **changes), np.random.default_rng(1))


def test_bone_is_brighter_than_lung_and_air_is_black():
    image = expose_with()
    assert image[40:44, 26:42].mean() > image[25:35, 26:42].mean() + 0.05
    assert image[:, :8].mean() < 0.15 < image[25:35, 26:42].mean()
    assert image[:, 60:70].mean() > image[40:44, 26:42].mean()


@pytest.mark.parametrize("brightness", [0.40, 0.55])
@pytest.mark.parametrize("thickness", [0.8, 1.2])
def test_the_automatic_exposure_meets_the_brightness_whatever_the_patient(brightness: float, thickness: float):
    settings = replace(SETTINGS, brightness=brightness)
    image = expose(thickness * attenuation(), PLANE, settings, np.random.default_rng(1))
    assert image.mean() == pytest.approx(brightness, abs=0.02)


def test_more_photons_make_less_noise():
    def noise(photons: float) -> float:
        settings = replace(SETTINGS, photons=photons)
        one, other = (expose(attenuation(), PLANE, settings, np.random.default_rng(seed)) for seed in (1, 2))
        return float((one - other)[75:90, 50:75].std())

    assert noise(2e3) > 5 * noise(2e5) > 0


def test_scatter_lowers_the_contrast_of_bone():
    clear, veiled = (expose_with(scatter=s) for s in (0.0, 0.5))
    contrast = [image[41:43, 26:42].mean() - image[25:35, 26:42].mean() for image in (clear, veiled)]
    assert contrast[1] < contrast[0]

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from cxr_platform.intake.phantoms.anatomy import draw_exposure
from cxr_platform.intake.phantoms.projection import Plane
from cxr_platform.intake.phantoms.rendering import annotate, burn_mark, collimate, expose

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
def test_automatic_exposure_gives_the_requested_brightness(brightness: float, thickness: float):
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


def grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width), 0.5, np.float32)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("height", [128, 320])
def test_the_mark_is_written_legibly_at_the_upper_or_lower_edge(seed: int, height: int):
    canvas = Image.fromarray(255 * grey(height, height))
    burn_mark(canvas, np.random.default_rng(seed))
    changed = np.asarray(canvas) != 127.5
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert rows[-1] < 0.12 * height or rows[0] > 0.88 * height
    assert 0.2 * height < len(columns) < 0.6 * height
    assert (np.asarray(canvas) > 230).sum() > 60
    assert (np.asarray(canvas) < 40).sum() > 60


@pytest.mark.parametrize("seed", range(20))
def test_the_mark_is_never_cut_off(seed: int):
    canvas = Image.fromarray(255 * grey(320, 300))
    burn_mark(canvas, np.random.default_rng(seed))
    changed = np.asarray(canvas) != 127.5
    assert not changed[[0, -1]].any()
    assert not changed[:, [0, -1]].any()


def test_annotations_depend_on_the_seed_and_stay_in_range():
    images = [annotate(grey(200, 220), "AP", np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert (images[0] == images[1]).all()
    assert (images[0] != images[2]).any()
    assert min(f.min() for f in images) >= 0
    assert max(f.max() for f in images) <= 1


def test_collimation_blackens_edges_of_some_images_only():
    framed = [collimate(grey(100, 100), np.random.default_rng(seed)) for seed in range(40)]
    untouched = sum(bool((image == 0.5).all()) for image in framed)
    assert 10 < untouched < 30
    assert all((image[6:-6, 6:-6] == 0.5).all() for image in framed)

import numpy as np
import pytest

from cxr_platform.intake.phantoms.projection import Plane, Strands, cloud, shadow, smoothstep, splat

PLANE = Plane(80, 100, 0.25, (1.0, 2.0), tilt=0.1)


def rod(start: list[float], end: list[float], radius: float, **options: float) -> Strands:
    return Strands(np.array([[start, end]]), np.full((1, 1), radius), np.ones((1, 1)), **options)


def test_projecting_undoes_the_coordinates_of_pixels():
    x, y = PLANE.coordinates()
    rows, columns = PLANE.project(np.stack([x, y, np.zeros_like(x)], axis=-1))
    assert rows == pytest.approx(np.broadcast_to(np.arange(80)[:, None], (80, 100)), abs=1e-3)
    assert columns == pytest.approx(np.broadcast_to(np.arange(100)[None, :], (80, 100)), abs=1e-3)


def test_turning_the_patient_moves_front_points_to_the_right():
    turned = Plane(80, 100, 0.25, (0.0, 0.0), turn=0.2)
    _, columns = turned.project(np.array([[0.0, 0.0, -5.0], [0.0, 0.0, 5.0]]))
    assert columns[1] - columns[0] == pytest.approx(10 * np.sin(0.2) / 0.25)
    assert turned.shift(5.0) > 0 > turned.shift(-5.0)


def test_splat_keeps_weight_inside_and_drops_it_outside():
    rows, columns = np.array([10.3, 20.0, -40.0]), np.array([5.7, 99.0, 10.0])
    total = splat(PLANE, rows, columns, np.array([1.0, 2.0, 4.0]))
    assert total.sum() == pytest.approx(3.0)
    assert total[10, 6] == pytest.approx(0.7 * 0.7)


def test_the_shadow_of_a_rod_is_its_diameter_in_the_middle():
    image = shadow(Plane(80, 100, 0.1, (0.0, 0.0)), rod([-8, 0, 0], [8, 0, 0], 1.0))
    assert image[39:41, 50].mean() == pytest.approx(2.0, rel=0.05)
    assert image[:25].max() == 0


def test_the_shadow_of_a_hollow_bone_is_denser_along_its_edges():
    image = shadow(Plane(80, 100, 0.1, (0.0, 0.0)), rod([-8, 0, 0], [8, 0, 0], 1.0, hollow=0.8, marrow=0.2))
    assert image[30:33, 50].max() > 1.3 * image[40, 50]


def test_a_rod_that_runs_towards_the_image_casts_a_denser_shadow():
    plane = Plane(80, 100, 0.1, (0.0, 0.0))
    level, steep = (shadow(plane, rod([-3, 0, 0], [3, 0, z], 0.5)) for z in (0, 9))
    assert steep[40, 50] > 1.5 * level[40, 50]


def test_no_strands_cast_no_shadow():
    none = Strands(np.zeros((0, 4, 3)), np.zeros((0, 1)), np.zeros((0, 1)))
    assert not shadow(PLANE, none).any()


def test_clouds_are_centred_smooth_and_repeatable():
    first, again = (cloud(PLANE, 2.0, np.random.default_rng(5)) for _ in range(2))
    assert (first == again).all()
    assert abs(first.mean()) < 0.3
    assert np.abs(np.diff(first, axis=0)).mean() < 0.3 * first.std()


def test_smoothstep_falls_if_its_ends_are_exchanged():
    values = np.linspace(-1, 2, 7)
    assert smoothstep(values, 0, 1) == pytest.approx(1 - smoothstep(values, 1, 0))
    assert smoothstep(values, 0, 1)[[0, 3, 6]] == pytest.approx([0, 0.5, 1])

from dataclasses import replace

import numpy as np
import pytest

from cxr_platform.intake.phantoms.organs import Chest
from cxr_platform.intake.phantoms.projection import Field, shadow
from cxr_platform.intake.phantoms.signs import LungSigns, draw_severity, lung_signs, reshape
from cxr_platform.labels import CLASSES
from tests.intake.phantoms.chests import PLANE, chest, straight


def diseased(label: str, severity: float = 0.9, seed: int = 0) -> tuple[Chest, LungSigns]:
    patient, position = straight(seed)
    drawn = Chest(reshape(label, patient, severity), position, PLANE)
    return drawn, lung_signs(label, drawn, severity, np.random.default_rng(seed))


def mean_fill(drawn: Chest, values: Field, where: Field) -> float:
    return float(values[where & (drawn.air > 3)].mean())


@pytest.mark.parametrize("seed", range(3))
def test_covid19_is_ground_glass_low_and_outside_on_both_sides(seed: int):
    drawn, added = diseased("Covid19", seed=seed)
    low = drawn.y > 0.6 * drawn.patient.dome_right
    outside, inside = drawn.outward > 0.6, drawn.outward < 0.3
    assert mean_fill(drawn, added.fill, low & outside) > 3 * mean_fill(drawn, added.fill, low & inside)
    assert mean_fill(drawn, added.fill, low & outside) > 2 * mean_fill(drawn, added.fill, ~low & outside)
    assert min(mean_fill(drawn, added.fill, low & outside & side) for side in (drawn.x > 0, drawn.x < 0)) > 0.1


@pytest.mark.parametrize("seed", range(3))
def test_edema_is_a_haze_round_the_hila_with_level_lines_at_the_wall(seed: int):
    drawn, added = diseased("Edema", seed=seed)
    near = (np.abs(drawn.y - 0.54 * drawn.patient.dome_right) < 3) & (drawn.outward < 0.3)
    assert mean_fill(drawn, added.fill, near) > 4 * mean_fill(drawn, added.fill, drawn.outward > 0.8)
    (kerley,) = added.tissue
    run = np.abs(kerley.points[:, -1] - kerley.points[:, 0])
    assert (run[:, 0] > 2 * run[:, 1]).mean() > 0.8
    assert drawn.patient.upper_vessels > 1.5


@pytest.mark.parametrize("seed", range(6))
def test_effusion_is_dense_at_the_base_and_rises_along_the_wall(seed: int):
    drawn, added = diseased("Effusion", seed=seed)
    assert added.fill.max() > 0.9
    assert mean_fill(drawn, added.fill, drawn.y < 5) == 0
    for side in (drawn.x > 0, drawn.x < 0):
        wet = (added.fill > 0.5) & side
        if wet.any():
            top = {u: drawn.y[wet & (np.abs(drawn.outward - u) < 0.08)].min() for u in (0.3, 0.9)}
            assert top[0.9] < top[0.3] - 0.5


def test_effusion_is_on_either_side_or_on_both():
    sides = set()
    for seed in range(12):
        drawn, added = diseased("Effusion", seed=seed)
        sides.add(tuple(bool((added.fill[half] > 0.5).any()) for half in (drawn.x < 0, drawn.x > 0)))
    assert sides == {(True, False), (False, True), (True, True)}


def test_emphysema_enlarges_lungs_and_flattens_domes_without_filling():
    drawn, added = diseased("Emphysema")
    healthy = chest()
    assert not added.fill.any()
    assert drawn.patient.dome_right > healthy.patient.dome_right + 2
    assert np.ptp(drawn.dome) < 0.6 * np.ptp(healthy.dome)
    assert drawn.patient.heart_ratio < healthy.patient.heart_ratio
    assert drawn.patient.lung_density < healthy.patient.lung_density


def test_fibrosis_is_a_net_in_the_bases_of_smaller_lungs():
    drawn, added = diseased("Fibrosis")
    (net,) = added.tissue
    lines = shadow(PLANE, net)
    low = drawn.y > 0.75 * drawn.patient.dome_right
    assert mean_fill(drawn, lines, low) > 4 * mean_fill(drawn, lines, drawn.y < 0.4 * drawn.patient.dome_right)
    assert drawn.air.sum() < 0.97 * chest().air.sum()


@pytest.mark.parametrize("seed", range(6))
def test_pneumonia_fills_one_zone_of_one_lung_and_leaves_air_in_its_bronchi(seed: int):
    drawn, added = diseased("Pneumonia", seed=seed)
    right, left = ((added.fill > 0.4) & half & (drawn.air > 3) for half in (drawn.x < 0, drawn.x > 0))
    assert right.any() != left.any()
    share = (right | left).sum() / (drawn.air > 3).sum()
    assert 0.04 < share < 0.5
    assert len(added.gas) == 1


def test_normal_lungs_have_no_findings():
    patient, _ = straight(0)
    _, added = diseased("Normal")
    assert reshape("Normal", patient, 1.0) == patient
    assert not added.fill.any()
    assert not added.tissue + added.gas


@pytest.mark.parametrize("label", [c for c in CLASSES if c not in ("Normal", "Emphysema")])
def test_a_more_severe_disease_takes_more_air(label: str):
    amounts = [np.sum(added.fill * drawn.air) for drawn, added in (diseased(label, s) for s in (0.4, 1.0))]
    assert amounts[1] > 1.15 * amounts[0]


def test_severity_ranges_from_plain_to_obvious():
    rng = np.random.default_rng(0)
    drawn = [draw_severity(rng) for _ in range(500)]
    assert 0.7 <= min(drawn) < 0.75
    assert 0.9 < max(drawn) <= 1.0


def test_a_disease_of_a_patient_is_the_same_on_another_image_of_the_same_size():
    drawn, added = diseased("Pneumonia", seed=4)
    again = lung_signs("Pneumonia", replace(drawn), 0.9, np.random.default_rng(4))
    assert (added.fill == again.fill).all()

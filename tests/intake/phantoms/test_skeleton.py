from dataclasses import replace

import numpy as np
import pytest

from cxr_platform.intake.phantoms.anatomy import RIBS
from cxr_platform.intake.phantoms.skeleton import clavicles, humeri, ribs, scapulae, skeleton, spine
from tests.intake.phantoms.chests import chest, straight


def test_ribs_are_paired_and_run_from_the_spine_round_the_flank_to_the_front():
    patient, _ = straight(0)
    points = ribs(replace(patient, rib_shifts=(0.0,) * (2 * RIBS))).points
    right, left = points[:RIBS], points[RIBS:]
    assert left == pytest.approx(right * [-1, 1, 1])
    assert (np.abs(left[:, 0, 0]) < 3).all()
    assert (left[:, 0, 2] < 0).all()
    assert (left[:8, -1, 2] > 0).all()
    assert left[4, :, 0].max() == pytest.approx(patient.half_width, abs=1.5)


def test_the_front_end_of_a_rib_is_lower_than_its_back_end():
    points = ribs(straight(0)[0]).points
    assert (points[:, -1, 1] > points[:, 0, 1] + 2).all()


def test_collar_bones_and_arms_mirror_each_other():
    patient, position = straight(2)
    for bones in (clavicles(patient, position), humeri(patient, position)):
        assert bones.points[1] == pytest.approx(bones.points[0] * [-1, 1, 1])


def test_shoulder_blades_turned_away_leave_the_lungs():
    inside = chest()
    outside = replace(inside, position=replace(inside.position, scapula=1.15))
    inside = replace(inside, position=replace(inside.position, scapula=0.0))
    lungs = inside.air > 3
    assert scapulae(inside)[lungs].sum() > 2 * scapulae(outside)[lungs].sum()


def test_the_spine_is_in_the_middle_and_made_of_vertebrae():
    drawn = chest(spine_bow=0.0)
    bone = spine(drawn)
    assert bone[:, np.abs(drawn.x[0]) > 4].sum() == pytest.approx(0, abs=1e-3)
    down = bone[:, 78:82].mean(axis=1)
    peaks = (down[1:-1] > down[:-2]) & (down[1:-1] >= down[2:])
    assert peaks.sum() >= 10


def test_weaker_bone_casts_a_fainter_shadow():
    assert skeleton(chest(bone=0.6)).sum() == pytest.approx(0.5 * skeleton(chest(bone=1.2)).sum(), rel=1e-4)

from dataclasses import replace

import numpy as np
import pytest

from cxr_platform.intake.phantoms.anatomy import breathing
from cxr_platform.intake.phantoms.organs import hilum, vessel_tree
from tests.intake.phantoms.chests import chest, straight


@pytest.mark.parametrize("seed", range(4))
def test_the_heart_is_on_the_left_and_has_the_requested_width(seed: int):
    drawn = chest(seed)
    columns = np.flatnonzero((drawn.heart > 0).any(axis=0))
    right, left = drawn.x[0, columns[0]], drawn.x[0, columns[-1]]
    assert left > -right > 0
    assert (left - right) / (2 * drawn.patient.half_width) == pytest.approx(drawn.patient.heart_ratio, abs=0.06)


def test_the_right_diaphragm_is_higher_than_the_left():
    drawn = chest()
    assert drawn.dome[:, :80].min() < drawn.dome[:, 80:].min()


def test_lungs_lie_within_the_body_and_are_thinner_than_it():
    drawn = chest()
    assert (drawn.air <= drawn.body + 1e-3).all()
    assert drawn.air.max() > 12


def test_a_flat_low_diaphragm_means_more_air():
    assert chest(dome_right=26.0, dome_left=26.5, dome_curve=0.4).air.sum() > 1.1 * chest().air.sum()


def test_the_fluid_level_coordinate_is_positive_in_the_lungs_only():
    drawn = chest()
    assert drawn.air[drawn.above > 1].sum() > 20 * drawn.air[drawn.above < -1].sum()


def test_a_shallow_breath_raises_the_diaphragm_and_the_bed_widens_the_heart():
    patient, position = straight(1)
    shallow = breathing(patient, replace(position, breath=-2.0, view="AP"))
    assert shallow.dome_right == patient.dome_right - 2.0
    assert shallow.heart_ratio > 1.1 * patient.heart_ratio


def test_a_breastless_chest_has_no_breast_shadow():
    assert not chest(breast=0.0).breasts.any()
    assert chest(breast=2.0).breasts.max() == pytest.approx(2.5, rel=0.05)


def test_the_windpipe_is_air_in_the_middle_above_the_lungs():
    drawn = chest()
    row = int(np.argmin(np.abs(drawn.y[:, 0] - 1.0)))
    assert abs(drawn.x[row, drawn.gas[row].argmax()]) < 1.5
    assert drawn.gas[row].max() == pytest.approx(1.9, rel=0.15)


def tree(**changes: float):
    return vessel_tree(replace(straight(0)[0], **changes), np.random.default_rng(1))


def test_vessels_get_thinner_by_generation_and_along_their_length():
    trunks, *branches = tree()
    widest = [np.median(part.radius.max(axis=1)) for part in (trunks, *branches)]
    assert widest == sorted(widest, reverse=True)
    assert all((part.radius[:, -1] < part.radius[:, 0]).all() for part in branches)


def test_vessels_leave_both_hila_outwards():
    _, first, *_ = tree()
    sides = np.sign(first.points[:, 0, 0])
    assert set(sides) == {-1.0, 1.0}
    assert (sides * (first.points[:, -1, 0] - first.points[:, 0, 0]) > 0).mean() > 0.8


def test_upper_lobe_vessels_widen_without_the_lower_ones():
    _, usual, *_ = tree()
    _, congested, *_ = tree(upper_vessels=1.8)
    wider = congested.radius[:, 0] > 1.5 * usual.radius[:, 0]
    upward = usual.points[:, -1, 1] < usual.points[:, 0, 1] - 4
    assert wider[upward].mean() > 0.9
    assert not wider[usual.points[:, -1, 1] > usual.points[:, 0, 1] + 3].any()


def test_the_left_hilum_is_higher_than_the_right():
    patient, _ = straight(0)
    assert hilum(patient, 1)[1] < hilum(patient, -1)[1]

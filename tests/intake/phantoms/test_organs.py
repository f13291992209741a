from dataclasses import replace

import numpy as np
import pytest

from cxr_platform.intake.phantoms.anatomy import breathing
from tests.intake.phantoms.chests import chest, straight


@pytest.mark.parametrize("seed", range(4))
def test_the_heart_lies_to_the_left_and_has_the_width_asked_for(seed: int):
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


def test_a_flat_low_diaphragm_makes_more_air():
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

from dataclasses import replace

import numpy as np

from cxr_platform.intake.phantoms.vessels import hilum, vessel_tree
from tests.intake.phantoms.chests import straight


def tree(**changes: float):
    return vessel_tree(replace(straight(0)[0], **changes), np.random.default_rng(1))


def test_vessels_get_thinner_from_generation_to_generation_and_along_their_way():
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

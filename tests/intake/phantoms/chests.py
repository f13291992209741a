"""Chests for several tests."""

from dataclasses import replace

import numpy as np

from cxr_platform.intake.phantoms.anatomy import Patient, Positioning, draw_patient, draw_positioning
from cxr_platform.intake.phantoms.organs import Chest
from cxr_platform.intake.phantoms.projection import Plane

PLANE = Plane(160, 160, 0.25, (0.0, 12.0))


def straight(seed: int) -> tuple[Patient, Positioning]:
    """Return a patient who stands straight before the detector."""
    rng = np.random.default_rng(seed)
    return draw_patient(rng), replace(draw_positioning(rng), view="PA", breath=0.0, tilt=0.0, turn=0.0)


def chest(seed: int = 0, **changes: float) -> Chest:
    """Return that patient on an image plane, with some numbers changed."""
    patient, position = straight(seed)
    return Chest(replace(patient, **changes), position, PLANE)

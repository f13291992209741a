"""The lung field is placed as images are letterboxed, and contains the known lungs of phantoms."""

import numpy as np
import pytest

from cxr_platform.intake.letterbox import letterbox
from cxr_platform.intake.lung_field import field_shares, image_areas, lung_fields
from cxr_platform.intake.phantoms.anatomy import breathing, draw_patient, draw_positioning
from cxr_platform.intake.phantoms.organs import Chest
from cxr_platform.intake.phantoms.projection import Plane

SHAPES = [(320, 320), (320, 236), (157, 320), (301, 97), (96, 95)]


def true_lungs(seed: int, size: int) -> np.ndarray:
    """Return where a phantom has more than 3 cm of air in its lungs, on an image centred as the generator does."""
    rng = np.random.default_rng(seed)
    position = draw_positioning(rng)
    patient = breathing(draw_patient(rng), position)
    centre = (position.offset[0], 0.47 * patient.dome_right + 1.2 + position.offset[1])
    pitch = position.field_height * max(1.0, patient.dome_right / 23.0) / size
    return np.asarray(Chest(patient, position, Plane(size, size, pitch, centre, position.tilt, position.turn)).air > 3)


@pytest.mark.parametrize(("width", "height"), SHAPES)
@pytest.mark.parametrize("size", [96, 200])
def test_the_image_area_is_where_the_letterbox_places_the_image(width: int, height: int, size: int) -> None:
    left, top, right, bottom = letterbox(np.full((height, width), 200, np.uint8), size).box
    expected = np.zeros((size, size), bool)
    expected[top:bottom, left:right] = True
    assert (image_areas(np.array([width]), np.array([height]), size)[0] == expected).all()


def test_the_field_is_on_the_image_and_covers_the_same_share_of_any_shape() -> None:
    widths, heights = np.array(SHAPES).T
    fields, areas = lung_fields(widths, heights, 200), image_areas(widths, heights, 200)
    assert not (fields & ~areas).any()
    assert field_shares(fields, areas) == pytest.approx(0.566, abs=0.02)


def test_the_field_covers_the_middle_but_no_edges() -> None:
    (field,) = lung_fields(np.array([1]), np.array([1]), 100)
    assert field[[50, 50, 80], [50, 15, 80]].all()
    assert not any(edge.any() for edge in (field[:6], field[85:], field[:, :8], field[:, 92:]))
    assert (field == field[:, ::-1]).all()


def test_the_field_contains_nearly_all_of_the_lungs_of_phantoms() -> None:
    size = 100
    (field,) = lung_fields(np.array([size]), np.array([size]), size)
    lungs = [true_lungs(seed, size) for seed in range(40)]
    covered = np.array([(lung & field).sum() / lung.sum() for lung in lungs])
    idle = np.mean([(field & ~lung).sum() / field.sum() for lung in lungs])
    assert covered.mean() > 0.94
    assert np.quantile(covered, 0.05) > 0.83
    assert idle < 0.45

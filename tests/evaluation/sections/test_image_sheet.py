import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr_platform.evaluation.pictures import HEAT_OPACITY, overlay_heatmap
from cxr_platform.evaluation.sections.image_sheet import Panel, heatmap_of, image_sheet, side_by_side

IMAGE = np.full((32, 32), 100, np.uint8)


def corner() -> np.ndarray:
    heat = np.zeros((8, 8), "float32")
    heat[:4, :4] = 1
    return heat


def test_heat_covers_the_image_and_the_rest_stays_visible():
    drawn = overlay_heatmap(IMAGE, corner())

    assert drawn.shape == (32, 32, 3)
    assert drawn[31, 31] == pytest.approx([100 / 255] * 3)
    assert drawn[2, 2] == pytest.approx(np.array([0.988, 0.998, 0.645]) * HEAT_OPACITY + 0.15 * 100 / 255, abs=0.01)


def test_the_image_is_to_the_left_of_its_overlay():
    drawn = side_by_side(IMAGE, corner())

    assert drawn.shape == (32, 64, 3)
    assert drawn[:, :32] == pytest.approx(100 / 255)
    assert (drawn[:, 32:] == overlay_heatmap(IMAGE, corner())).all()


def test_a_heatmap_is_stored_row_by_row():
    row = pd.Series({"side": 2, "heatmap": np.array([0, 1, 0.5, 0.25], "float16")})

    assert heatmap_of(row).tolist() == [[0, 1], [0.5, 0.25]]


def test_the_palette_has_white_black_heat_and_stamp():
    drawn = image_sheet([Panel(("Normal",), overlay_heatmap(IMAGE, corner()))], 1, synthetic=True)
    picture = Image.open(io.BytesIO(drawn))
    seen = np.asarray(picture.convert("RGB")).astype(int)

    assert picture.mode == "P"
    assert (seen[0, 0] == 255).all()
    hottest = np.rint(255 * overlay_heatmap(IMAGE, corner())[2, 2])
    for colour in ((26, 26, 26), hottest, (0x7A, 0, 0x19)):  # ink, heat, stamp
        assert (np.abs(seen - colour).max(axis=-1) < 12).any()


def test_a_sheet_has_as_many_rows_as_its_panels_need():
    panel = Panel(("Normal", "east"), overlay_heatmap(IMAGE, corner()))
    one, two = (Image.open(io.BytesIO(image_sheet([panel] * count, 2, synthetic=False))).size for count in (2, 3))

    assert two[0] == pytest.approx(one[0], rel=0.02)
    assert two[1] > 1.7 * one[1]

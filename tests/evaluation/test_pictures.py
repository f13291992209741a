import io

import numpy as np
import pytest
from PIL import Image

from cxr_platform.evaluation.pictures import (
    Picture,
    accuracy_chart,
    confusion_picture,
    explanation_picture,
    readable_on,
)
from tests.evaluation.builders import drawn_frame

STAMP = (0x7A, 0x00, 0x19)


def pixels(picture: Picture) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture.png)).convert("RGB"))


def has_colour(picture: Picture, colour: tuple[int, int, int]) -> bool:
    return bool((pixels(picture) == colour).all(axis=-1).sum() > 1000)


def test_the_chart_is_a_png_wide_enough_to_print(all_strategies):
    height, width, _ = pixels(accuracy_chart(all_strategies)).shape

    assert width >= 1000
    assert height >= 1000


def test_a_synthetic_study_is_stamped_on_every_picture(all_strategies, as_printed):
    assert has_colour(accuracy_chart(all_strategies), STAMP)
    assert has_colour(confusion_picture(all_strategies, all_strategies.best), STAMP)
    assert not has_colour(accuracy_chart(as_printed), STAMP)
    assert not has_colour(confusion_picture(as_printed, as_printed.best), STAMP)


def test_the_same_figures_give_the_same_bytes(as_printed):
    assert accuracy_chart(as_printed).png == accuracy_chart(as_printed).png


def test_the_chart_has_a_text_alternative(results):
    alt = accuracy_chart(results(drawn_frame({"scratch": 0.9}), synthetic=True)).alt

    assert alt.startswith("Synthetic images. Bar chart")
    assert "Fine-tuning 7 not run (paper 43.43)" in alt


def test_a_strategy_that_the_paper_does_not_have_is_in_the_chart_of_its_study_only(all_strategies, nine_strategies):
    eight, nine = accuracy_chart(all_strategies), accuracy_chart(nine_strategies)

    assert "Robust" not in eight.alt
    assert nine.alt.endswith("(paper –).")
    assert "Robust head 8" in nine.alt
    assert len(pixels(nine)) > len(pixels(eight))


def test_a_matrix_has_a_text_alternative(as_printed):
    picture = confusion_picture(as_printed, as_printed.strategies["scratch"])

    assert picture.name == "confusion-scratch"
    assert "Covid19 97.36, Edema 79.18" in picture.alt


def test_a_class_without_images_is_drawn_without_a_warning(results):
    frame = drawn_frame({"scratch": 0.9})
    study = results(frame[frame["label"] != "Fibrosis"])

    assert "Fibrosis –" in confusion_picture(study, study.best).alt


@pytest.mark.parametrize(("background", "colour"), [((1, 1, 1), "#1a1a1a"), ((0.03, 0.19, 0.42), "white")])
def test_text_is_dark_on_light_and_light_on_dark(background, colour):
    assert readable_on(background) == colour


def test_pictures_leave_the_global_state_of_matplotlib_alone(as_printed):
    import matplotlib

    before = dict(matplotlib.rcParams)
    accuracy_chart(as_printed)

    assert dict(matplotlib.rcParams) == before


IMAGE = np.random.default_rng(0).integers(0, 255, (32, 32)).astype("uint8")


FIELD = np.zeros((32, 32), bool)


FIELD[8:24, 8:24] = True


PROBABILITIES = np.array([0.7, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05])


def drawn(heat: np.ndarray, *, synthetic: bool = False) -> np.ndarray:
    png = explanation_picture(IMAGE, heat, FIELD, PROBABILITIES, "Covid19, source east", synthetic=synthetic)
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_heat_outline_and_bars_are_drawn():
    cold, hot = drawn(np.zeros((8, 8))), drawn(np.ones((8, 8)))

    assert cold.shape == hot.shape
    assert np.abs(cold - hot).max() > 100
    for colour in ((0x56, 0xB4, 0xE9), (0x00, 0x72, 0xB2)):  # outline, bars
        assert (np.abs(cold - colour).max(axis=-1) < 8).any()


def test_drawn_images_are_stamped():
    assert (np.abs(drawn(np.zeros((8, 8)), synthetic=True) - (0x7A, 0, 0x19)).max(axis=-1) < 8).any()
    assert not (np.abs(drawn(np.zeros((8, 8))) - (0x7A, 0, 0x19)).max(axis=-1) < 8).any()

"""Changed images: each kind does what it says, and the winner's out-of-fold networks answer them."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.evaluation.evidence_files import FILES
from cxr_platform.evaluation.sections.corruptions import KINDS
from cxr_platform.evidence import corruptions as made
from cxr_platform.evidence.corruptions import CLEAN, CORRUPTIONS, changed, corrupted_predictions
from tests.evidence.trained import STRATEGY, trained_open_study

SIZE = 64


def image() -> np.ndarray:
    """A bright disc with a fine grid on it, in the middle of grey."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    disc = np.where(np.hypot(x, y) < 20, 200, 90)
    return (disc + 30 * ((x + y) % 2 == 0)).astype(np.uint8)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_greater_strength_changes_an_image_more(kind: str) -> None:
    strengths = CORRUPTIONS[kind][1]
    images = image()[None]
    apart = [np.abs(changed(images, kind, s).astype(float) - images).mean() for s in strengths]
    assert changed(images, kind, strengths[0]).shape == images.shape
    assert changed(images, kind, strengths[0]).dtype == np.uint8
    assert apart == sorted(apart)
    assert apart[0] > 0


def test_each_kind_does_what_its_name_says() -> None:
    images = image()[None]
    assert changed(images, "contrast", 50).std() == pytest.approx(images.std() / 2, rel=0.05)
    assert np.diff(changed(images, "blur", 4)[0].astype(float)).std() < np.diff(images[0].astype(float)).std() / 4
    square = np.zeros((1, SIZE, SIZE), np.uint8)
    square[0, :, 40:] = 255
    turned = changed(square, "rotation", 10)[0] > 127
    assert turned[20].argmax() < turned[44].argmax()  # the edge leans to the left
    assert (changed(images, "crop", 16) > 150).mean() > (images > 150).mean() * 1.8
    with_text = changed(images, "marker", 12)[0]
    assert (with_text[:16] != images[0][:16]).mean() > 0.05
    assert (with_text[20:] == images[0][20:]).all()
    assert (changed(images, CLEAN, 0) == images).all()


def test_every_kind_has_a_title_in_the_report() -> None:
    assert set(KINDS) == set(CORRUPTIONS)


@cache
def table() -> pd.DataFrame:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made, "IMAGES_PER_CLASS", 6)
        patch.setattr(made, "CORRUPTIONS", {"blur": (made.blurred, (8,))})
        return corrupted_predictions(trained_open_study("corner"))["corruptions"].to_pandas()


def test_the_unchanged_images_have_the_answers_of_the_study() -> None:
    opened, frame = trained_open_study("corner"), table()
    clean = frame[frame["corruption"] == CLEAN].set_index("image_id")
    assert len(clean) == 18
    assert clean["label"].value_counts().tolist() == [6, 6, 6]
    place = {name: row for row, name in enumerate(opened.predictions.image_id)}
    stored = opened.predictions.probability[STRATEGY][[place[name] for name in clean.index]]
    assert clean[list(PROBABILITY_COLUMNS)].to_numpy() == pytest.approx(stored, abs=0.02)


def test_fine_patterns_are_lost_by_a_strong_blur() -> None:
    frame = table()
    right = {}
    for kind, rows in frame.groupby("corruption"):
        answers = rows[list(PROBABILITY_COLUMNS)].to_numpy().argmax(axis=1)
        names = np.array([name.removeprefix("p_") for name in PROBABILITY_COLUMNS])
        right[kind] = (np.char.lower(names[answers]) == rows["label"].str.lower().to_numpy().astype(str)).mean()
    assert right["none"] > 0.8
    assert right["blur"] < right["none"] - 0.2
    assert set(FILES["corruptions"]) <= set(frame)

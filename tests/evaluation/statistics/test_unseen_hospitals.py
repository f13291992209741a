import pandas as pd
import pytest

from cxr_platform.evaluation.predictions import Predictions
from cxr_platform.evaluation.statistics.unseen_hospitals import UnseenHospitals, unseen_hospitals
from tests.evaluation import planted
from tests.evaluation.origin_study import EACH, images, predictions

COUNTS = {"Covid19": {"east": EACH, "west": EACH}, "Normal": {"east": EACH, "west": EACH}, "Edema": {"south": EACH}}
NORMAL_OF_WEST = {("west", "Normal"): "Covid19"}


def own() -> Predictions:
    """All images of the study right in its own folds; an image has the same id."""
    shown = images()
    made = planted.predictions(list(shown["source"]), list(shown["label"]))
    return Predictions(
        shown["image_id"].to_numpy(object),
        shown["group_id"].to_numpy(object),
        *(getattr(made, name) for name in ("source", "label", "fold", "folds", "probability")),
    )


def figures(frame: pd.DataFrame, compared_with: str = "scratch") -> dict[str, UnseenHospitals]:
    return unseen_hospitals(
        frame.assign(left_out=[("east", "west")[k] for k in frame["fold"]], origin=frame["source"]),
        own(),
        COUNTS,
        compared_with,
        seed=0,
    )


def test_rates_are_of_the_images_left_out() -> None:
    found = figures(predictions({"scratch": NORMAL_OF_WEST}))["scratch"]
    assert found.sensitivity.value == 100
    assert found.specificity.value == pytest.approx(50)  # those of west, not those of east
    assert (found.accuracy.value, found.images) == (pytest.approx(75), 4 * EACH)
    assert found.change.value == pytest.approx(-25)
    assert found.change.high < 0


def test_images_whose_class_no_other_origin_has_do_not_count_for_the_accuracy() -> None:
    frame = predictions({"scratch": {("east", "Normal"): "Edema"}})
    frame.loc[frame["source"] == "west", "label"] = "Covid19"
    counts = {"Covid19": {"east": EACH, "west": 2 * EACH}, "Normal": {"east": EACH}, "Edema": {"south": EACH}}
    made = frame.assign(left_out=[("east", "west")[k] for k in frame["fold"]], origin=frame["source"])
    found = unseen_hospitals(made, own(), counts, "scratch", seed=0)["scratch"]
    assert found.images == 3 * EACH
    assert found.specificity.value == 100


def test_the_mean_auc_is_that_of_the_pairs_and_has_an_interval() -> None:
    found = figures(predictions({"scratch": NORMAL_OF_WEST}))["scratch"]
    values = {(pair.left_out, pair.positive, pair.negative): pair.auc.value for pair in found.pairs}
    assert values["west", "west", "west"] == 0.5  # all images have the same probability
    assert values["east", "east", "east"] == 1
    assert found.mean.value == pytest.approx(sum(values.values()) / len(values))
    assert {pair.strategy for pair in found.pairs} == {"scratch"}


def test_strategies_are_compared_on_the_same_pairs() -> None:
    found = figures(predictions({"scratch": {}, "off-the-shelf": NORMAL_OF_WEST}))
    assert found["scratch"].difference.value is None
    gap = found["off-the-shelf"].difference
    assert gap.value == pytest.approx(found["off-the-shelf"].mean.value - found["scratch"].mean.value)
    assert gap.value < 0
    assert found["off-the-shelf"].change.value is None  # the study itself has scratch only
    assert figures(predictions({"off-the-shelf": {}}))["off-the-shelf"].difference.value is None

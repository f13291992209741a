from collections.abc import Collection
from dataclasses import replace

import pandas as pd
import pytest

from cxr_platform.evaluation.predictions import Predictions
from cxr_platform.evaluation.statistics.unseen_hospitals import UnseenHospitals, unseen_hospitals
from tests.evaluation import planted
from tests.evaluation.origin_study import EACH, images, predictions

COUNTS = {"Covid19": {"east": EACH, "west": EACH}, "Normal": {"east": EACH, "west": EACH}, "Edema": {"south": EACH}}
NORMAL_OF_WEST = {("west", "Normal"): "Covid19"}


def own(wrong: Collection[str] = ()) -> Predictions:
    """The study's own folds: all images right but those `wrong`, by id; in the order of ids."""
    shown = images()
    given = [
        "Edema" if image in wrong else label for image, label in zip(shown["image_id"], shown["label"], strict=True)
    ]
    made = planted.predictions(list(shown["source"]), list(shown["label"]), given)
    ids = {name: shown[name].to_numpy(object) for name in ("image_id", "group_id")}
    return replace(made, **ids)


def figures(
    frame: pd.DataFrame, compared_with: str = "scratch", wrong: Collection[str] = ()
) -> dict[str, UnseenHospitals]:
    left_out = [("east", "west")[fold] for fold in frame["fold"]]
    made = frame.assign(left_out=left_out, origin=frame["source"])
    return unseen_hospitals(made, own(wrong), COUNTS, compared_with, seed=0)


def test_rates_are_of_the_images_left_out() -> None:
    found = figures(predictions({"scratch": NORMAL_OF_WEST}))["scratch"]
    assert found.sensitivity.value == 100
    assert found.specificity.value == pytest.approx(50)  # those of west, not those of east
    assert (found.accuracy.value, found.images) == (pytest.approx(75), 4 * EACH)
    assert found.change.value == pytest.approx(-25)
    assert found.change.high < 0


def test_the_change_is_of_the_same_images_whatever_their_order() -> None:
    """The images that are wrong without their hospital are wrong in the study's own folds too: nothing changes."""
    frame = predictions({"scratch": NORMAL_OF_WEST})
    shown = images()
    wrong = shown[(shown["source"] == "west") & (shown["label"] == "Normal")]["image_id"]
    change = figures(frame.sample(frac=1, random_state=1), wrong=set(wrong))["scratch"].change
    assert (change.value, change.low, change.high) == (0, 0, 0)
    others = shown[(shown["source"] == "east") & (shown["label"] == "Normal")]["image_id"]
    assert figures(frame, wrong=set(others))["scratch"].change.low < 0


def test_figures_do_not_depend_on_the_order_of_the_rows() -> None:
    frame = predictions({"scratch": {}, "off-the-shelf": NORMAL_OF_WEST})
    assert figures(frame.sample(frac=1, random_state=1)) == figures(frame)


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


def test_pairs_with_few_patients_do_not_count_for_the_mean() -> None:
    frame = predictions({"scratch": NORMAL_OF_WEST})
    few = (frame["source"] == "west") & (frame["label"] == "Normal") & (frame["image_id"] > "image-0125")
    found = figures(frame[~few])["scratch"]
    large = [pair.auc.value for pair in found.pairs if not pair.small]
    assert len(large) < len(found.pairs)
    assert found.mean.value == pytest.approx(sum(large) / len(large))


def test_without_a_pair_there_is_no_auc_but_the_rates() -> None:
    frame = predictions({"scratch": {}})
    found = figures(frame[frame["label"] == "Normal"])["scratch"]
    assert found.pairs == ()
    assert (found.mean.value, found.difference.value, found.accuracy.value) == (None, None, 100)

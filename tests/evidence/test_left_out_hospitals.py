"""One origin left out, on features that are given: no network is needed to check what is trained on what."""

from dataclasses import replace

import numpy as np
import pytest

from cxr_platform.errors import NotPossible
from cxr_platform.evaluation.evidence_files import FILES
from cxr_platform.evidence import left_out_hospitals as module
from cxr_platform.evidence.left_out_hospitals import hospital_predictions
from cxr_platform.labels import CLASSES
from cxr_platform.training.data import StudyData
from tests.evidence.builders import made_open_study, planted_facts, planted_study

COVID = CLASSES.index("Covid19")


@pytest.fixture
def data() -> StudyData:
    return planted_study("lungs", None).data


def predicted(data: StudyData, features: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> "object":
    monkeypatch.setattr(module, "whole_image_features", lambda _: features)
    opened = made_open_study(data, planted_facts(data, 0), planted_study("lungs", None).profile, None)
    table = hospital_predictions(opened)["hospitals"]
    assert set(FILES["hospitals"]) <= set(table.column_names)
    return table.to_pandas()


def test_images_of_other_origins_are_scored_once_and_those_of_the_origin_left_out_by_each_classifier(
    data: StudyData, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = predicted(data, np.eye(7)[data.labels], monkeypatch)
    parts = frame["part"].nunique()
    assert parts > 1
    times = frame.groupby(["left_out", "origin"])["image_id"].value_counts().groupby(["left_out", "origin"]).unique()
    assert {key: list(counts) for key, counts in times.items()} == {
        (left_out, origin): [parts if left_out == origin else 1]
        for left_out in ("east", "west")
        for origin in ("east", "west")
    }
    covid = frame["label"] == "Covid19"
    assert frame.loc[covid, "p_Covid19"].min() > frame.loc[~covid, "p_Covid19"].max()


def test_images_of_the_origin_left_out_do_not_teach_their_sign(
    data: StudyData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sign of Covid19 is in `east` another than in `west`: without `east`, its own is not known."""
    features = np.eye(9)[np.where((data.sources == "east") & (data.labels == COVID), 7, data.labels)]
    frame = predicted(data, features, monkeypatch)
    of_east = frame[(frame["origin"] == "east") & (frame["label"] == "Covid19")]
    means = of_east.groupby("left_out")["p_Covid19"].mean()
    assert means["east"] < 0.5 < means["west"]


def test_an_image_is_not_scored_by_a_classifier_of_its_fold(data: StudyData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features that identify the image and nothing else separate no class on other images."""
    frame = predicted(data, np.eye(120), monkeypatch)
    covid = frame.groupby(frame["label"] == "Covid19")["p_Covid19"].mean()
    assert covid[True] == pytest.approx(covid[False], abs=0.05)


def test_covid19_of_one_origin_cannot_be_left_out(data: StudyData, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = np.where(data.labels == COVID, "east", "west")
    with pytest.raises(NotPossible, match="Covid19 from two hospitals"):
        predicted(replace(data, sources=sources), np.zeros((120, 2)), monkeypatch)


def test_an_origin_is_not_left_out_if_one_classifier_would_have_no_covid19(
    data: StudyData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `east`, all Covid19 is in one fold: a classifier is fitted without it."""
    labels = np.where((data.labels == COVID) & (data.sources == "west") & (data.folds != 0), COVID + 1, data.labels)
    frame = predicted(replace(data, labels=labels), np.eye(7)[labels], monkeypatch)
    assert set(frame["left_out"]) == {"west"}

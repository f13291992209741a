"""Leave one source or origin out, on features that are given: no network is needed to check what is trained on what."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.errors import NotPossible
from cxr_platform.evaluation.evidence_files import FILES
from cxr_platform.evidence import left_out_origins as module
from cxr_platform.evidence.left_out_origins import (
    hospital_predictions,
    left_out_predictions,
    robust_hospital_predictions,
    rows_to_test,
    training_rows,
)
from cxr_platform.evidence.open_study import OpenStudy
from cxr_platform.labels import CLASSES
from cxr_platform.training.data import StudyData, ViewImages
from cxr_platform.training.robust_head import CONTRAST
from tests.evidence.builders import made_open_study, planted_facts, planted_study
from tests.study_records import study_record
from tests.training.builders import tiny_profile

COVID, PNEUMONIA, NORMAL = (CLASSES.index(name) for name in ("Covid19", "Pneumonia", "Normal"))


@pytest.fixture
def data() -> StudyData:
    return planted_study("lungs", None).data


def on(data: StudyData, features: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> OpenStudy:
    monkeypatch.setattr(module, "whole_image_features", lambda _: features)
    return made_open_study(data, planted_facts(data, 0), planted_study("lungs", None).profile, None)


def recall(frame: "object", source: str) -> float:
    rows = frame[frame["source"] == source]  # type: ignore[index]
    predicted = np.array(CLASSES)[rows[list(PROBABILITY_COLUMNS)].to_numpy().argmax(axis=1)]
    return float((predicted == rows["label"]).mean())


def test_a_sign_of_the_class_is_recognised_in_the_left_out_source(
    data: StudyData, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = on(data, np.eye(7)[data.labels], monkeypatch)
    table = left_out_predictions(opened)["left_out"]
    assert set(FILES["left_out"]) <= set(table.column_names)
    frame = table.to_pandas()
    assert sorted(frame["image_id"]) == sorted(data.image_ids)
    assert recall(frame, "east") == recall(frame, "west") == 1
    assert (frame["trained_on"] == 20).all()


def test_a_sign_that_differs_between_sources_is_not_recognised(
    data: StudyData, monkeypatch: pytest.MonkeyPatch
) -> None:
    swapped = np.where((data.sources == "east") & (data.labels != NORMAL), COVID + PNEUMONIA - data.labels, data.labels)
    frame = left_out_predictions(on(data, np.eye(7)[swapped], monkeypatch))["left_out"].to_pandas()
    frame = frame[frame["label"] != "Normal"]
    assert recall(frame, "east") == recall(frame, "west") == 0


def test_sources_of_one_origin_are_left_out_together(data: StudyData, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = on(data, np.eye(7)[data.labels], monkeypatch)
    opened.study.manifest.origins.update(east="one hospital", west="one hospital")
    with pytest.raises(NotPossible, match="one source for each class"):
        left_out_predictions(opened)


def test_training_has_no_image_of_the_source_or_of_its_groups(data: StudyData) -> None:
    groups = data.group_ids.copy()
    relative = np.flatnonzero(data.sources == "west")[0]
    groups[relative] = groups[np.flatnonzero(data.sources == "east")[0]]
    rows = training_rows(replace(data, group_ids=groups), "east")
    assert set(data.sources[rows]) == {"west"}
    assert len(rows) == 59
    assert relative not in rows


def test_a_class_of_one_source_is_not_tested(data: StudyData) -> None:
    only_west = replace(data, sources=np.where(data.labels == COVID, "west", data.sources))
    assert set(data.labels[rows_to_test(only_west, "west")]) == {PNEUMONIA, NORMAL}
    assert set(data.labels[rows_to_test(only_west, "east")]) == {PNEUMONIA, NORMAL}


def test_without_a_class_of_two_sources_the_analysis_is_not_possible(
    data: StudyData, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart = replace(data, sources=np.array(CLASSES)[data.labels])
    with pytest.raises(NotPossible, match="a class with images of two sources"):
        left_out_predictions(on(apart, np.zeros((120, 2)), monkeypatch))


def by_hospital(data: StudyData, features: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> "object":
    table = hospital_predictions(on(data, features, monkeypatch))["hospitals"]
    assert set(FILES["hospitals"]) <= set(table.column_names)
    return table.to_pandas()


def test_images_of_other_origins_are_scored_once_and_those_of_the_origin_left_out_by_each_classifier(
    data: StudyData, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = by_hospital(data, np.eye(7)[data.labels], monkeypatch)
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
    frame = by_hospital(data, features, monkeypatch)
    of_east = frame[(frame["origin"] == "east") & (frame["label"] == "Covid19")]
    means = of_east.groupby("left_out")["p_Covid19"].mean()
    assert means["east"] < 0.5 < means["west"]


def test_an_image_is_not_scored_by_a_classifier_of_its_fold(data: StudyData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features that identify the image and nothing else separate no class on other images."""
    frame = by_hospital(data, np.eye(120), monkeypatch)
    covid = frame.groupby(frame["label"] == "Covid19")["p_Covid19"].mean()
    assert covid[True] == pytest.approx(covid[False], abs=0.05)


def test_covid19_of_one_origin_cannot_be_left_out(data: StudyData, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = np.where(data.labels == COVID, "east", "west")
    with pytest.raises(NotPossible, match="Covid19 from two hospitals"):
        by_hospital(replace(data, sources=sources), np.zeros((120, 2)), monkeypatch)


def test_an_origin_is_not_left_out_if_one_classifier_would_have_no_covid19(
    data: StudyData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `east`, all Covid19 is in one fold: a classifier is fitted without it."""
    labels = np.where((data.labels == COVID) & (data.sources == "west") & (data.folds != 0), COVID + 1, data.labels)
    frame = by_hospital(replace(data, labels=labels), np.eye(7)[labels], monkeypatch)
    assert set(frame["left_out"]) == {"west"}


def robust_frame(
    data: StudyData, features: np.ndarray, monkeypatch: pytest.MonkeyPatch, contrast_images: int = 0, **settings: object
) -> "object":
    """Predictions by heads on two views, of which the second sees nothing; contrast images look like Covid19."""
    labels = np.append(data.labels, np.full(contrast_images, CONTRAST))
    values = np.concatenate([features, np.tile(np.eye(features.shape[1])[COVID], (contrast_images, 1))])
    views = np.stack([values, np.zeros_like(values)], axis=1)[:, :, np.newaxis]
    images = ViewImages(
        views,
        labels,
        np.append(data.folds, np.zeros(contrast_images, int)),
        np.append(data.sources, ["west"] * contrast_images),
    )
    profile = tiny_profile(robust={"views": ["whole", "lungs"], **settings})
    facts = planted_facts(data, 0)
    more = facts.slice(0, contrast_images)
    for name, value in (("role", "contrast"), ("image_id", "c"), ("group_id", "c"), ("source_path", "c")):
        more = more.set_column(
            more.schema.get_field_index(name), name, pa.array([value] * contrast_images, pa.string())
        )
    monkeypatch.setattr(module, "load_view_images", lambda *_: images)
    monkeypatch.setattr(module, "whole_image_features", lambda _: features)
    monkeypatch.setattr(module, "image_features", lambda shown, *_: shown.reshape(len(shown), -1))
    opened = made_open_study(data, pa.concat_tables([facts, more]), profile, None)
    object.__setattr__(opened, "study", study_record(profile=profile, strategies=("scratch", "robust")))
    table = robust_hospital_predictions(opened)["hospitals_robust"]
    assert set(FILES["hospitals_robust"]) <= set(table.column_names)
    return table.to_pandas()


def test_heads_of_robust_score_the_images_that_the_classifier_scores(
    data: StudyData, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ["left_out", "part", "image_id", "origin", "label"]
    by_head = robust_frame(data, np.eye(7)[data.labels], monkeypatch)
    by_classifier = by_hospital(data, np.eye(7)[data.labels], monkeypatch)
    assert by_head[keys].equals(by_classifier[keys])  # type: ignore[attr-defined]
    covid = by_head["label"] == "Covid19"
    assert by_head.loc[covid, "p_Covid19"].min() > by_head.loc[~covid, "p_Covid19"].max()


def test_heads_of_robust_do_not_learn_the_sign_of_the_origin_left_out(
    data: StudyData, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = np.eye(9)[np.where((data.sources == "east") & (data.labels == COVID), 7, data.labels)]
    frame = robust_frame(data, features, monkeypatch)
    of_east = frame[(frame["origin"] == "east") & (frame["label"] == "Covid19")]
    means = of_east.groupby("left_out")["p_Covid19"].mean()
    assert means["west"] > means["east"] + 0.3


def test_contrast_images_teach_heads_that_take_them_and_are_not_scored(
    data: StudyData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Contrast images look like Covid19: a head that is fitted to them is less sure of it."""

    def sure_of_covid19(**settings: object) -> float:
        frame = robust_frame(data, np.eye(7)[data.labels], monkeypatch, contrast_images=60, **settings)
        assert "c" not in set(frame["image_id"])
        rows = frame[(frame["left_out"] == "east") & (frame["label"] == "Covid19")]
        return float(rows["p_Covid19"].mean())

    assert sure_of_covid19() > sure_of_covid19(contrast=True) + 0.02


def test_a_study_without_robust_has_no_heads_of_it(data: StudyData, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotPossible, match="the strategy robust"):
        robust_hospital_predictions(on(data, np.eye(7)[data.labels], monkeypatch))


def test_heads_that_no_origin_can_be_left_out_of_are_not_possible(
    data: StudyData, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = np.where(data.labels == COVID, "east", "west")
    with pytest.raises(NotPossible, match="out of the head of robust"):
        robust_frame(replace(data, sources=sources), np.eye(7)[data.labels], monkeypatch)

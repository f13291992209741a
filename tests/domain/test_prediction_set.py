"""Prediction sets: which classes belong to a set, and what it states."""

import pytest

from cxr_platform.domain.prediction_set import PredictionSets, set_members
from cxr_platform.labels import CLASSES
from tests.registry.builders import SETS, changed

ROW = (0.125, 0.5, 0.1, 0.1, 0.025, 0.15, 0.0)


def test_a_class_at_its_threshold_is_in_the_set_and_one_without_threshold_is_not() -> None:
    assert set_members(ROW, [0.125, 0.6, 0.1, None, 0.1, 0.1, 0.0]).tolist() == [
        True, False, True, False, False, True, True,
    ]  # fmt: skip


def test_the_labels_of_an_image_follow_the_order_of_the_classes() -> None:
    expected = [label for label, p in zip(CLASSES, ROW, strict=True) if p >= 0.125]
    assert SETS.labels(ROW) == expected
    assert SETS.labels([0.1] * 7) == []


def test_the_meaning_names_coverage_limit_and_the_classes_without_statement() -> None:
    assert "90 % of the images of each class with a threshold." in SETS.meaning
    assert "not for other hospitals" in SETS.meaning
    assert "Nothing is stated about Fibrosis" in SETS.meaning
    whole = changed(SETS, classes=tuple(part for part in SETS.classes if part.threshold is not None))
    assert "90 % of the images of each class." in whole.meaning
    assert "Nothing is stated" not in whole.meaning


def test_a_class_that_appears_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="each class once"):
        PredictionSets(**{**dict(SETS), "classes": (*SETS.classes, SETS.classes[0])})

import pandas as pd
import pytest

from cxr_platform.evaluation.findings import ClassAnswers
from cxr_platform.evaluation.statistics.class_answers import class_answers
from cxr_platform.labels import CLASSES
from tests.evaluation.planted import STRATEGY, predictions
from tests.evaluation.probed import LABELS, SOURCES, answers, unseen_frame

IMAGES = ["Covid19"] * 4 + ["Normal"] * 10 + ["Fibrosis"] * 2
CALLED = ["Covid19"] * 3 + ["Edema"] + ["Covid19"] * 7 + ["Normal"] * 3 + ["Covid19"] * 2


def by_class(frame: pd.DataFrame) -> dict[tuple[str, str], ClassAnswers]:
    found = class_answers(frame, predictions(SOURCES, LABELS, answers(190)), [STRATEGY], seed=1)
    return {(answered.source, answered.label): answered for answered in found}


def shares(answered: ClassAnswers) -> dict[str, float | None]:
    return {label: share.value for label, share in zip(CLASSES, answered.shares, strict=True) if share.value}


def test_each_class_of_a_source_has_the_shares_that_it_is_called() -> None:
    found = by_class(unseen_frame(IMAGES, {(STRATEGY, fold): CALLED for fold in (0, 1)}))
    assert {key: (a.images, a.groups, a.small, shares(a)) for key, a in found.items()} == {
        ("elsewhere", "Covid19"): (4, 4, True, {"Covid19": 75.0, "Edema": 25.0}),
        ("elsewhere", "Normal"): (10, 10, True, {"Covid19": 70.0, "Normal": 30.0}),
        ("elsewhere", "Fibrosis"): (2, 2, True, {"Covid19": 100.0}),
    }
    normal = found["elsewhere", "Normal"].shares[CLASSES.index("Covid19")]
    assert normal.low < 70 < normal.high  # type: ignore[operator]


def test_the_same_shares_stand_beside_them_from_cross_validation() -> None:
    found = by_class(unseen_frame(IMAGES, {(STRATEGY, 0): CALLED}))
    right = found["elsewhere", "Normal"].internal[CLASSES.index("Normal")]
    normals = [i for i, label in enumerate(LABELS) if label == "Normal"]
    assert right.value == pytest.approx(100 * sum(i < 190 for i in normals) / len(normals))
    assert found["elsewhere", "Normal"].internal[CLASSES.index("Covid19")].value == 0
    assert found["elsewhere", "Fibrosis"].internal[0].value is None  # not in the study


def test_sources_are_apart() -> None:
    one = unseen_frame(["Normal"] * 3, {(STRATEGY, 0): ["Normal"] * 3})
    other = unseen_frame(["Normal"] * 2, {(STRATEGY, 0): ["Edema"] * 2}).assign(source="farther", image_id=["x", "y"])
    assert {source: shares(a) for (source, _), a in by_class(pd.concat([one, other])).items()} == {
        "elsewhere": {"Normal": 100.0},
        "farther": {"Edema": 100.0},
    }

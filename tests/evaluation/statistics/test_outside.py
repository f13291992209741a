import pandas as pd
import pytest

from cxr_platform.evaluation.findings import OutsideFinding
from cxr_platform.evaluation.statistics.outside import outside_findings
from cxr_platform.labels import CLASSES
from tests.evaluation.planted import STRATEGY, predictions
from tests.evaluation.probed import LABELS, SOURCES, unseen_frame

CALLED = ["Covid19"] * 12 + ["Normal"] * 6 + ["Edema"] * 2


def frame(called: list[str] = CALLED, finding: list[str] | None = None, source: str = "far") -> pd.DataFrame:
    """Images of none of the classes, each by the networks of two folds."""
    made = unseen_frame(["Normal"] * len(called), {(STRATEGY, fold): called for fold in (0, 1)})
    stated = (finding or ["tuberculosis"] * len(called)) * 2
    return made.assign(label=None, finding=stated, source=source)


def found(answers: pd.DataFrame, predicted: list[str] | None = None) -> list[OutsideFinding]:
    return outside_findings(answers, predictions(SOURCES, LABELS, predicted), [STRATEGY], seed=1)


def test_the_share_of_each_answer_is_counted_with_an_interval() -> None:
    (alone,) = found(frame())
    assert (alone.source, alone.finding, alone.whole, alone.images, alone.called) == (
        "far", "tuberculosis", True, 20, 12,
    )  # fmt: skip
    shares = dict(zip(CLASSES, alone.shares, strict=True))
    assert {label: share.value for label, share in shares.items() if share.value} == {
        "Covid19": pytest.approx(60),
        "Normal": pytest.approx(30),
        "Edema": pytest.approx(10),
    }
    assert alone.share is shares["Covid19"]
    assert alone.share.low < 60 < alone.share.high  # type: ignore[operator]


def test_more_covid19_than_in_cross_validation_is_higher_only_without_overlap() -> None:
    (clear,) = found(frame())
    assert (clear.internal.value, clear.higher) == (0.0, True)
    every_third = ["Covid19" if label == "Covid19" or i % 3 == 0 else label for i, label in enumerate(LABELS)]
    (level,) = found(frame(["Covid19"] * 8 + ["Normal"] * 12), every_third)
    assert level.internal.value == pytest.approx(100 / 3, abs=1)
    assert not level.higher


def test_sources_and_their_findings_have_figures_of_their_own() -> None:
    findings = ["SARS"] * 12 + ["aspergillosis"] * 7 + [""]
    both = pd.concat([frame(finding=findings), frame(["Normal"] * 3, source="farther").assign(image_id=list("xyzxyz"))])
    parts = found(both)
    assert [(f.source, f.finding, f.whole, f.images, f.called) for f in parts] == [
        ("far", "", True, 20, 12),
        ("far", "SARS", False, 12, 12),
        ("far", "aspergillosis", False, 7, 0),
        ("far", "not stated", False, 1, 0),
        ("farther", "tuberculosis", True, 3, 0),
    ]
    assert [f.small for f in parts] == [False, True, True, True, True]

import numpy as np
import pandas as pd
import pytest

from cxr_platform.domain.interval import Interval
from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.evaluation.findings import ExternalFinding
from cxr_platform.evaluation.statistics.external import (
    ScoredImages,
    contradicts,
    defined_rates,
    ensemble_images,
    external_findings,
    fold_range,
    interval_values,
)
from cxr_platform.labels import CLASSES
from tests.evaluation.planted import predictions
from tests.evaluation.probed import LABELS, SOURCES, answers, unseen_frame

IMAGES = ["Covid19"] * 4 + ["Normal"] * 10 + ["Edema"] * 2
RIGHT_ON_COVID = ["Covid19"] * 4 + ["Covid19"] * 8 + ["Normal"] * 2 + ["Edema"] * 2


def findings_by_rate(answered: list[str] = RIGHT_ON_COVID) -> dict[tuple[str, str], ExternalFinding]:
    frame = unseen_frame(IMAGES, {("scratch", 0): answered, ("scratch", 1): answered})
    findings = external_findings(frame, predictions(SOURCES, LABELS, answers(190)), ["scratch"], seed=1)
    return {(finding.measure, finding.label): finding for finding in findings}


def test_each_rate_that_the_images_allow_is_counted_over_its_own_images() -> None:
    assert {key: (f.wrong, f.images, f.external.value) for key, f in findings_by_rate().items()} == {
        ("sensitivity", "Covid19"): (0, 4, 100.0),
        ("specificity", "Covid19"): (8, 12, pytest.approx(100 / 3)),
        ("recall", "Edema"): (0, 2, 100.0),
        ("recall", "Normal"): (8, 10, 20.0),
    }


def test_the_same_rate_stands_beside_it_from_cross_validation() -> None:
    made = findings_by_rate()
    actual, told = np.array(LABELS), np.array(answers(190))
    right = (actual == "Normal") & (told == "Normal")
    assert made["recall", "Normal"].internal.value == pytest.approx(100 * right.sum() / (actual == "Normal").sum())
    assert made["specificity", "Covid19"].internal.value == 100
    assert made["recall", "Edema"].internal.value is None


def test_a_lower_rate_without_overlap_contradicts_and_one_without_a_counterpart_does_not() -> None:
    assert {key: f.contradicts for key, f in findings_by_rate().items()} == {
        ("sensitivity", "Covid19"): False,
        ("specificity", "Covid19"): True,
        ("recall", "Edema"): False,
        ("recall", "Normal"): True,
    }


@pytest.mark.parametrize(
    ("external", "internal", "verdict"),
    [
        (Interval(50.0, 40.0, 60.0), Interval(90.0, 61.0, 95.0), True),
        (Interval(50.0, 40.0, 60.0), Interval(90.0, 60.0, 95.0), False),
        (Interval(99.0, 98.0, 100.0), Interval(50.0, 40.0, 60.0), False),
        (Interval(50.0), Interval(90.0, 80.0, 95.0), False),
        (Interval(50.0, 40.0, 60.0), Interval(None), False),
    ],
)
def test_contradiction_is_an_interval_wholly_below_the_other(
    external: Interval, internal: Interval, verdict: bool
) -> None:
    assert contradicts(external, internal) is verdict


def test_the_models_of_the_folds_are_averaged_by_probability() -> None:
    frame = unseen_frame(["Normal"], {("scratch", fold): ["Edema"] for fold in (0, 1)})
    values = np.zeros((2, 7))
    values[:, CLASSES.index("Normal")], values[:, CLASSES.index("Edema")] = (0.45, 0.9), (0.55, 0.1)
    frame[list(PROBABILITY_COLUMNS)] = values
    scored = ensemble_images(frame)
    assert scored.predicted.tolist() == scored.labels.tolist() == [CLASSES.index("Normal")]
    finding = ExternalFinding("elsewhere", "recall", "Normal", "scratch", 1, 0, Interval(None), Interval(100.0), False)
    assert fold_range(frame, finding) == (0.0, 100.0)
    assert fold_range(frame[frame["source"] == "nowhere"], finding) is None


def test_images_of_covid_alone_have_no_specificity() -> None:
    assert list(defined_rates(["Covid19"])) == [("sensitivity", "Covid19")]
    assert list(defined_rates(["Normal", "Edema"])) == [
        ("specificity", "Covid19"),
        ("recall", "Edema"),
        ("recall", "Normal"),
    ]


def test_images_of_one_patient_widen_the_interval() -> None:
    labels = np.full(40, CLASSES.index("Normal"))
    predicted = np.where(np.arange(40) < 20, labels, 0)
    alone = ScoredImages(labels, predicted, np.arange(40)).rate("recall", "Normal", 1)
    together = ScoredImages(labels, predicted, np.arange(40) // 10).rate("recall", "Normal", 1)
    assert together.high - together.low > alone.high - alone.low  # type: ignore[operator]


def test_bounds_are_plain_values() -> None:
    assert interval_values(Interval(1.0, 0.5, 2.0)) == {"value": 1.0, "low": 0.5, "high": 2.0}


def test_each_source_has_its_own_findings() -> None:
    frames = [unseen_frame(["Normal"] * 3, {("scratch", 0): [told] * 3}) for told in ("Normal", "Edema")]
    both = pd.concat([frames[0], frames[1].assign(source="farther", image_id=["x", "y", "z"])])
    findings = external_findings(both, predictions(SOURCES, LABELS), ["scratch"], seed=1)
    recalls = {f.source: f.external.value for f in findings if f.measure == "recall"}
    assert recalls == {"elsewhere": 100.0, "farther": 0.0}

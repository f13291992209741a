import base64
from dataclasses import replace

import numpy as np
import pytest

from cxr_platform.serving.answers import explanation, model_answer, reason, screen_answer
from cxr_platform.serving.schema import ModelAnswer, ScreenAnswer
from cxr_platform.serving.screener import Finding, Screener, Screening
from tests.serving.builders import image_png

SECONDS = {"upload": 0.001, "waiting": 0.002, "total": 0.1}
FINDING = Finding("low-contrast", "contrast 0.084, least 0.2")


@pytest.fixture
def screening(screener: Screener) -> Screening:
    (made,) = screener.screen([screener.prepare(image_png())])
    return made


def test_an_answer_has_every_class_in_order(screener: Screener, screening: Screening) -> None:
    answer = screen_answer(screening, screener.bundle, "id", SECONDS, None)
    assert answer.probabilities is not None
    assert tuple(answer.probabilities) == screener.bundle.labels
    assert sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert answer.covid19_probability == answer.probabilities["Covid19"]
    assert answer.timings_ms.waiting == 2
    assert answer.timings_ms.explanation is None
    assert answer.timings_ms.decode == round(1000 * screening.prepared.seconds, 2)
    assert answer.timings_ms.inference == round(1000 * screening.seconds, 2)
    assert ScreenAnswer.model_validate_json(answer.model_dump_json()) == answer


def test_a_screenable_image_has_a_prediction_set_by_the_thresholds_of_the_bundle(
    screener: Screener, screening: Screening
) -> None:
    probabilities = np.array([0.5, 0.2, 0.2, 0.05, 0.03, 0.01, 0.01])
    usual = replace(screening, probabilities=probabilities, findings=())
    made = screen_answer(usual, screener.bundle, "id", SECONDS, None).prediction_set
    assert made is not None
    assert made.labels == list(screener.bundle.labels[:3])
    assert made.not_stated == screener.bundle.prediction_sets.not_stated
    assert "not for other hospitals" in made.meaning
    poor = replace(usual, findings=(FINDING,), decision="not-screenable")
    assert screen_answer(poor, screener.bundle, "id", SECONDS, None).prediction_set is None


def test_the_duration_of_an_explanation_is_reported(screener: Screener, screening: Screening) -> None:
    answer = screen_answer(screening, screener.bundle, "id", {**SECONDS, "explanation": 0.25}, None)
    assert answer.timings_ms.explanation == 250


def test_an_image_that_is_not_screenable_gets_no_label_and_no_probabilities(
    screener: Screener, screening: Screening
) -> None:
    poor = replace(screening, findings=(FINDING,), decision="not-screenable")
    answer = screen_answer(poor, screener.bundle, "id", SECONDS, None)
    assert answer.label is answer.probabilities is answer.covid19_probability is None
    assert answer.findings[0].detail == FINDING.detail
    assert answer.decision == "not-screenable"


@pytest.mark.parametrize(
    ("decision", "covid19", "words"),
    [("positive", 0.9, "90.0 %, above"), ("negative", 0.05, "5.0 %, below"), ("indeterminate", 0.25, "25.0 %, within")],
)
def test_the_reason_gives_the_decision_in_a_sentence(
    screener: Screener, screening: Screening, decision: str, covid19: float, words: str
) -> None:
    decided = replace(screening, decision=decision, covid19=covid19, label="Covid19", findings=())  # type: ignore[arg-type]
    sentence = reason(decided, screener.bundle)
    assert words in sentence
    assert sentence.endswith("zone from 20.0 to 30.0 % around the operating point for 95 % sensitivity.")


@pytest.mark.parametrize(("decision", "named"), [("positive", True), ("negative", False), ("indeterminate", False)])
def test_the_reason_names_another_class_that_is_more_probable_than_covid19(
    screener: Screener, screening: Screening, decision: str, named: bool
) -> None:
    other = replace(screening, decision=decision, covid19=0.4, label="Pneumonia", findings=())  # type: ignore[arg-type]
    assert ("sensitivity; the most probable class is Pneumonia." in reason(other, screener.bundle)) is named


def test_the_model_answer_has_origin_and_performance(screener: Screener) -> None:
    answer = model_answer(screener.bundle)
    point = screener.bundle.operating_point
    assert answer.operating_point == point
    assert answer.metrics == screener.bundle.metrics
    assert ModelAnswer.model_validate_json(answer.model_dump_json()) == answer


def test_pictures_are_encoded_as_base64() -> None:
    content = bytes(np.arange(256, dtype=np.uint8))
    made = explanation("Edema", content, None, "why")
    assert base64.b64decode(made.image_png) == content
    assert (made.heatmap_png, made.missing) == (None, "why")


def test_the_reason_says_that_the_heads_of_a_gate_disagree(screener: Screener, screening: Screening) -> None:
    undecided = replace(screening, decision="indeterminate", covid19=0.05, findings=(), disagreement=True)
    told = reason(undecided, screener.bundle)
    assert told.startswith("The two heads of the model disagree on Covid19: ")
    assert told.endswith("within the origins that have Covid19 and other images does not.")
    refused = replace(undecided, findings=(FINDING,), decision="not-screenable")
    assert "not screenable" in reason(refused, screener.bundle)

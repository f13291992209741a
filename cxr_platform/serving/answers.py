"""Build the answers of the HTTP API from screenings and bundles."""

import base64
from collections.abc import Mapping

from cxr_platform.domain.operating_point import DecisionRule
from cxr_platform.registry.bundle import Bundle
from cxr_platform.serving.schema import (
    Explanation,
    FindingAnswer,
    ModelAnswer,
    ModelName,
    PredictionSetAnswer,
    ScreenAnswer,
    Timings,
)
from cxr_platform.serving.screener import Screening

DIGITS = 6
"""Decimals of a probability; further ones differ between processors."""


def screen_answer(
    screening: Screening, bundle: Bundle, request_id: str, seconds: Mapping[str, float], explanation: Explanation | None
) -> ScreenAnswer:
    """Return the answer for an image; `seconds` has the fields of `Timings` without decode and inference."""
    screenable = not screening.findings
    by_label = zip(bundle.labels, screening.probabilities, strict=True)
    point = bundle.operating_point
    return ScreenAnswer(
        request_id=request_id,
        model=ModelName(version=bundle.version, strategy=bundle.strategy, synthetic=bundle.synthetic),
        decision=screening.decision,
        reason=reason(screening, bundle),
        label=screening.label if screenable else None,
        probabilities={label: round(float(p), DIGITS) for label, p in by_label} if screenable else None,
        covid19_probability=round(screening.covid19, DIGITS) if screenable else None,
        prediction_set=_prediction_set(screening, bundle) if screenable else None,
        operating_point=DecisionRule(
            target_sensitivity=point.target_sensitivity, threshold=point.threshold, zone=point.zone
        ),
        findings=[FindingAnswer(code=f.code, message=f.message, detail=f.detail) for f in screening.findings],
        explanation=explanation,
        timings_ms=_timings(screening, seconds),
    )


def reason(screening: Screening, bundle: Bundle) -> str:
    """Return the decision in a sentence."""
    if screening.findings:
        return f"The image is not screenable: {'; '.join(finding.message for finding in screening.findings)}."
    name, point = bundle.positive_class, bundle.operating_point
    if screening.disagreement:
        return (
            f"The two heads of the model disagree on {name}: the one of all classes names it, the one that was fitted "
            f"within the origins that have {name} and other images does not."
        )
    low, high = point.zone
    position = {"positive": "above", "negative": "below", "indeterminate": "within"}[screening.decision]
    sentence = (
        f"The {name} probability is {100 * screening.covid19:.1f} %, {position} the indeterminate zone from "
        f"{100 * low:.1f} to {100 * high:.1f} % around the operating point for {100 * point.target_sensitivity:g} % "
        "sensitivity"
    )
    # The operating point decides, so an image can be positive although another class is more probable.
    if screening.decision == "positive" and screening.label != name:
        sentence += f"; the most probable class is {screening.label}"
    return f"{sentence}."


def explanation(target: str, image_png: bytes, heatmap_png: bytes | None, missing: str | None) -> Explanation:
    """Return both pictures as text."""
    return Explanation(
        target=target,
        image_png=base64.b64encode(image_png).decode(),
        heatmap_png=None if heatmap_png is None else base64.b64encode(heatmap_png).decode(),
        missing=missing,
    )


def model_answer(bundle: Bundle) -> ModelAnswer:
    """Return the description of the model in `bundle`."""
    return ModelAnswer(
        version=bundle.version,
        strategy=bundle.strategy,
        synthetic=bundle.synthetic,
        better_than_majority=bundle.better_than_majority,
        created=bundle.created,
        labels=list(bundle.labels),
        positive_class=bundle.positive_class,
        input_size=bundle.preprocessing.input_size,
        temperature=bundle.temperature,
        operating_point=bundle.operating_point,
        prediction_sets=bundle.prediction_sets,
        metrics=bundle.metrics,
        study=bundle.study.name,
        protocol=bundle.study.protocol,
        images=bundle.study.images,
        winner=bundle.study.winner,
    )


def _prediction_set(screening: Screening, bundle: Bundle) -> PredictionSetAnswer:
    sets = bundle.prediction_sets
    return PredictionSetAnswer(
        labels=sets.labels(screening.probabilities),
        coverage=sets.coverage,
        not_stated=sets.not_stated,
        meaning=sets.meaning,
    )


def _timings(screening: Screening, seconds: Mapping[str, float]) -> Timings:
    milliseconds = {name: round(1000 * value, 2) for name, value in seconds.items()}
    return Timings(
        upload=milliseconds["upload"],
        waiting=milliseconds["waiting"],
        decode=round(1000 * screening.prepared.seconds, 2),
        inference=round(1000 * screening.seconds, 2),
        explanation=milliseconds.get("explanation"),
        total=milliseconds["total"],
    )

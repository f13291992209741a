"""From a screening to the answer that a client gets."""

import base64
from collections.abc import Mapping

from cxr_platform.domain.operating_point import DecisionRule
from cxr_platform.registry.bundle import Bundle
from cxr_platform.serving.schema import (
    Explanation,
    FindingAnswer,
    ModelAnswer,
    ModelName,
    ScreenAnswer,
    Timings,
)
from cxr_platform.serving.screener import Screening

DIGITS = 6
"""Of a probability: what is behind them differs between processors."""


def screen_answer(
    screening: Screening, bundle: Bundle, request_id: str, seconds: Mapping[str, float], explanation: Explanation | None
) -> ScreenAnswer:
    """The answer for an image; `seconds` by the names of `Timings`, without decode and inference."""
    screenable = not screening.findings
    by_label = zip(bundle.labels, screening.probabilities, strict=True)
    return ScreenAnswer(
        request_id=request_id,
        model=ModelName(version=bundle.version, strategy=bundle.strategy, synthetic=bundle.synthetic),
        decision=screening.decision,
        reason=reason(screening, bundle),
        label=screening.label if screenable else None,
        probabilities={label: round(float(p), DIGITS) for label, p in by_label} if screenable else None,
        covid19_probability=round(screening.covid19, DIGITS) if screenable else None,
        operating_point=_decision_rule(bundle),
        findings=[FindingAnswer(code=f.code, sentence=f.sentence, detail=f.detail) for f in screening.findings],
        explanation=explanation,
        timings_ms=_timings(screening, seconds),
    )


def reason(screening: Screening, bundle: Bundle) -> str:
    """The decision in a sentence."""
    if screening.findings:
        return f"The image is not screenable: {'; '.join(f.sentence for f in screening.findings)}."
    low, high = bundle.operating_point.zone
    where = {"positive": "above", "negative": "below", "indeterminate": "within"}[screening.decision]
    share = f"{100 * bundle.operating_point.target_sensitivity:g}"
    return (
        f"The {bundle.positive_class} probability is {100 * screening.covid19:.1f} %, {where} the zone from "
        f"{100 * low:.1f} to {100 * high:.1f} % around the point chosen to find {share} % of {bundle.positive_class} "
        f"images{_another_class(screening, bundle)}."
    )


def _another_class(screening: Screening, bundle: Bundle) -> str:
    """Said where it may surprise: the decision is by the point, and a positive image may more likely be of another."""
    if screening.decision != "positive" or screening.label == bundle.positive_class:
        return ""
    return f"; its likeliest class is another, {screening.label}"


def explanation(target: str, image_png: bytes, heatmap_png: bytes | None, missing: str | None) -> Explanation:
    """Both pictures as text."""
    return Explanation(
        target=target,
        image_png=base64.b64encode(image_png).decode(),
        heatmap_png=None if heatmap_png is None else base64.b64encode(heatmap_png).decode(),
        missing=missing,
    )


def model_answer(bundle: Bundle) -> ModelAnswer:
    """Return the facts of `bundle` for a client."""
    return ModelAnswer(
        version=bundle.version,
        strategy=bundle.strategy,
        synthetic=bundle.synthetic,
        created=bundle.created,
        labels=list(bundle.labels),
        positive_class=bundle.positive_class,
        input_size=bundle.preprocessing.input_size,
        temperature=bundle.temperature,
        operating_point=bundle.operating_point,
        metrics=bundle.metrics,
        study=bundle.study.name,
        protocol=bundle.study.protocol,
        images=bundle.study.images,
        winner=bundle.study.winner,
    )


def _decision_rule(bundle: Bundle) -> DecisionRule:
    point = bundle.operating_point
    return DecisionRule(target_sensitivity=point.target_sensitivity, threshold=point.threshold, zone=point.zone)


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

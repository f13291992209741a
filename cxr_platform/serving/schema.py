"""What the server answers, as typed models: they are the OpenAPI document, its examples included."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cxr_platform.domain.interval import Interval
from cxr_platform.domain.operating_point import DecisionRule, OperatingPoint
from cxr_platform.labels import CLASSES

NOTICE = "For research, not for diagnosis."
Decision = Literal["positive", "negative", "indeterminate", "not-screenable"]

_MODEL: dict[str, Any] = {"version": "v3", "strategy": "scratch", "synthetic": False}
_PROBABILITIES: dict[str, Any] = dict(
    zip(CLASSES, (0.8213, 0.0104, 0.0251, 0.0032, 0.0118, 0.1147, 0.0135), strict=True)
)
_POINT: dict[str, Any] = {"target_sensitivity": 0.95, "threshold": 0.31, "zone": [0.22, 0.38]}
_TIMINGS: dict[str, Any] = {
    "upload": 3.1,
    "waiting": 0.2,
    "decode": 8.4,
    "inference": 6.9,
    "explanation": None,
    "total": 19.0,
}
_SCREENED: dict[str, Any] = {
    "request_id": "5f3a9c0e7d1b4e21a9d0c4f2b8e61a37",
    "model": _MODEL,
    "decision": "positive",
    "reason": "The Covid19 probability is 82.1 %, above the zone from 22.0 to 38.0 % around the point chosen to find "
    "95 % of Covid19 images.",
    "label": "Covid19",
    "probabilities": _PROBABILITIES,
    "covid19_probability": 0.8213,
    "operating_point": _POINT,
    "findings": [],
    "explanation": None,
    "timings_ms": _TIMINGS,
    "notice": NOTICE,
}
_FINDING: dict[str, Any] = {
    "code": "low-contrast",
    "sentence": "grey values too close together",
    "detail": "contrast 0.084, least 0.2",
}
_NOT_SCREENABLE: dict[str, Any] = {
    **_SCREENED,
    "decision": "not-screenable",
    "reason": "The image is not screenable: grey values too close together.",
    "label": None,
    "probabilities": None,
    "covid19_probability": None,
    "findings": [_FINDING],
}
_PROBLEM: dict[str, Any] = {
    "type": "/problems/not-an-image",
    "title": "The content of the file is no PNG, JPEG or DICOM image, whatever its name says.",
    "status": 415,
    "detail": "Send the image as PNG, JPEG or DICOM.",
    "reason": "not-an-image",
    "request_id": "5f3a9c0e7d1b4e21a9d0c4f2b8e61a37",
}
_FEW: dict[str, Any] = {"value": 2.1, "low": 1.4, "high": 3.0, "ratio": False, "signed": False}
_INTERVAL: dict[str, Any] = {"value": 96.1, "low": 94.9, "high": 97.2, "ratio": False, "signed": False}


class Answer(BaseModel):
    """Base of every model: no unknown keys."""

    model_config = ConfigDict(extra="forbid")


class ModelName(Answer):
    """Which model answered."""

    version: str = Field(description="The version in the registry.")
    strategy: str = Field(description="How it was trained.")
    synthetic: bool = Field(description="Trained on drawn images: a demonstration that says nothing of patients.")


class FindingAnswer(Answer):
    """A reason against screening the image."""

    code: str = Field(description="low-contrast, partial, not-upright, low-resolution, unlike-training-images")
    sentence: str
    detail: str = Field(description="The measure and its limit.")


class Explanation(Answer):
    """Where the label comes from. Both pictures are squares of the same size, to be laid over each other."""

    target: str = Field(description="The label that is explained.")
    image_png: str = Field(description="Base64: the image as the network gets it, letterboxed, grey.")
    heatmap_png: str | None = Field(None, description="Base64: RGBA, transparent where nothing speaks for the label.")
    missing: str | None = Field(None, description="Why there is no heatmap, if there is none.")


class Timings(Answer):
    """Milliseconds in the server; `null` for what was not done."""

    upload: float
    waiting: float = Field(description="For a free thread.")
    decode: float
    inference: float
    explanation: float | None = None
    total: float


class ScreenAnswer(Answer):
    """The answer for an image. Where it is not screenable there is no label and no probability."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_SCREENED, _NOT_SCREENABLE]})

    request_id: str
    model: ModelName
    decision: Decision
    reason: str = Field(description="The decision in a sentence.")
    label: str | None = Field(None, description="The most probable of the seven classes.")
    probabilities: dict[str, float] | None = Field(
        None, description="Of the seven classes, calibrated; they add up to 1."
    )
    covid19_probability: float | None = None
    operating_point: DecisionRule
    findings: list[FindingAnswer] = Field(description="Why the image is not screenable; empty where it is.")
    explanation: Explanation | None = Field(None, description="With ?explain=true, for an image that is screenable.")
    timings_ms: Timings
    notice: str = NOTICE


class ProblemAnswer(BaseModel):
    """Problem details (RFC 9457)."""

    model_config = ConfigDict(json_schema_extra={"examples": [_PROBLEM]})

    type: str = Field(description="The address of a description of this sort of problem.")
    title: str
    status: int
    detail: str = Field(description="What to do.")
    reason: str = Field(description="The last part of `type`, for programs.")
    request_id: str


class BatchItem(Answer):
    """An image of a batch: its place in the request, from 0, and either a result or a problem."""

    index: int
    result: ScreenAnswer | None = None
    problem: ProblemAnswer | None = None


class BatchAnswer(Answer):
    """The answers in the order of the files."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "request_id": _SCREENED["request_id"],
                    "items": [{"index": 0, "result": _SCREENED}, {"index": 1, "problem": _PROBLEM}],
                    "notice": NOTICE,
                }
            ]
        },
    )

    request_id: str
    items: list[BatchItem]
    notice: str = NOTICE


class ModelAnswer(Answer):
    """What serves: where it comes from and how good it was on images that it had not seen."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    **_MODEL,
                    "created": "2026-11-20T09:30:00+00:00",
                    "labels": list(CLASSES),
                    "positive_class": "Covid19",
                    "input_size": 200,
                    "temperature": 1.31,
                    "operating_point": {
                        **_POINT,
                        "sensitivity": _INTERVAL,
                        "specificity": _INTERVAL,
                        "decisions": {
                            "true_positive": _INTERVAL,
                            "false_negative": _FEW,
                            "true_negative": _INTERVAL,
                            "false_positive": _FEW,
                            "indeterminate": _FEW,
                        },
                    },
                    "metrics": {"accuracy_7_class": _INTERVAL},
                    "study": "images-paper",
                    "protocol": "grouped",
                    "images": 3905,
                    "winner": "scratch",
                    "notice": NOTICE,
                }
            ]
        },
    )

    version: str
    strategy: str
    synthetic: bool
    created: datetime
    labels: list[str]
    positive_class: str
    input_size: int
    temperature: float
    operating_point: OperatingPoint
    metrics: dict[str, Interval] = Field(description="Out-of-fold metrics of the study; in percent, or ratios.")
    study: str
    protocol: str
    images: int
    winner: str = Field(description="The strategy that did best in the study.")
    notice: str = NOTICE


class Alive(Answer):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Ready(Answer):
    """Whether a model is loaded and warm, and what becomes of changes of the champion."""

    status: Literal["ready"] = "ready"
    version: str
    pending: str | None = Field(None, description="The champion that is not answering yet.")
    refused: list[str] = Field(description="Champions that cannot be loaded: the one before them goes on answering.")
    registry_readable: bool

"""The answers of the HTTP API as pydantic models, with the examples that the OpenAPI document and /docs show."""

from datetime import datetime
from typing import Any, Literal, TypeAlias

from pydantic import ConfigDict, Field

from cxr_platform.domain.interval import Interval
from cxr_platform.domain.operating_point import DecisionRule, OperatingPoint
from cxr_platform.domain.prediction_set import PredictionSets
from cxr_platform.intake.candidate import UNFIT
from cxr_platform.labels import CLASSES
from cxr_platform.validation import Record

NOTICE = "For research, not for diagnosis."
Decision: TypeAlias = Literal["positive", "negative", "indeterminate", "not-screenable"]
Example: TypeAlias = dict[str, Any]

_REQUEST_ID = "5f3a9c0e7d1b4e21a9d0c4f2b8e61a37"
_MODEL: Example = {"version": "v3", "strategy": "scratch", "synthetic": False}
_DECISION_RULE: Example = {"target_sensitivity": 0.95, "threshold": 0.31, "zone": [0.22, 0.38]}
_SCREENED: Example = {
    "request_id": _REQUEST_ID,
    "model": _MODEL,
    "decision": "positive",
    "reason": "The Covid19 probability is 82.1 %, above the indeterminate zone from 22.0 to 38.0 % around the "
    "operating point for 95 % sensitivity.",
    "label": "Covid19",
    "probabilities": dict(zip(CLASSES, (0.8213, 0.0104, 0.0251, 0.0032, 0.0118, 0.1147, 0.0135), strict=True)),
    "covid19_probability": 0.8213,
    "prediction_set": {
        "labels": ["Covid19", "Effusion"],
        "coverage": 0.9,
        "not_stated": ["Fibrosis"],
        "meaning": "The set aims to contain the true class for 90 % of the images of each class. …",
    },
    "operating_point": _DECISION_RULE,
    "findings": [],
    "explanation": None,
    "timings_ms": {
        "upload": 3.1,
        "waiting": 0.2,
        "decode": 8.4,
        "inference": 6.9,
        "explanation": None,
        "total": 19.0,
    },
    "notice": NOTICE,
}
_NOT_SCREENABLE: Example = {
    **_SCREENED,
    "decision": "not-screenable",
    "reason": "The image is not screenable: grey values too close together.",
    "label": None,
    "probabilities": None,
    "covid19_probability": None,
    "prediction_set": None,
    "findings": [
        {
            "code": "low-contrast",
            "message": "grey values too close together",
            "detail": "contrast 0.084, least 0.2",
        }
    ],
}
_PROBLEM: Example = {
    "type": "/problems/not-an-image",
    "title": "The file is not a PNG, JPEG or DICOM image. Its content counts, not its name.",
    "status": 415,
    "detail": "Send the image as PNG, JPEG or DICOM.",
    "reason": "not-an-image",
    "request_id": _REQUEST_ID,
}
_BATCH: Example = {
    "request_id": _REQUEST_ID,
    "items": [
        {"index": 0, "result": _SCREENED, "problem": None},
        {"index": 1, "result": None, "problem": _PROBLEM},
    ],
    "notice": NOTICE,
}
_LOW_RATE: Example = {"value": 2.1, "low": 1.4, "high": 3.0, "ratio": False, "signed": False}
_HIGH_RATE: Example = {"value": 96.1, "low": 94.9, "high": 97.2, "ratio": False, "signed": False}
_FULL_MODEL: Example = {
    **_MODEL,
    "better_than_majority": True,
    "created": "2026-11-20T09:30:00Z",
    "labels": list(CLASSES),
    "positive_class": "Covid19",
    "input_size": 200,
    "temperature": 1.31,
    "operating_point": {
        **_DECISION_RULE,
        "sensitivity": _HIGH_RATE,
        "specificity": _HIGH_RATE,
        "decisions": {
            "true_positive": _HIGH_RATE,
            "false_negative": _LOW_RATE,
            "true_negative": _HIGH_RATE,
            "false_positive": _LOW_RATE,
            "indeterminate": _LOW_RATE,
        },
    },
    "prediction_sets": {
        "coverage": 0.9,
        "classes": [{"label": "Covid19", "patients": 210, "threshold": 0.11, "coverage": _HIGH_RATE}],
        "mean_size": 1.4,
        "single": _HIGH_RATE,
        "empty": _LOW_RATE,
    },
    "metrics": {"accuracy_7_class": _HIGH_RATE},
    "study": "images-paper",
    "protocol": "grouped",
    "images": 3905,
    "winner": "scratch",
    "notice": NOTICE,
}


class ModelName(Record):
    """The model that answered."""

    version: str = Field(description="Version in the registry.")
    strategy: str = Field(description="Training strategy.")
    synthetic: bool = Field(description="True for a demonstration that was trained on drawn phantoms only.")


class FindingAnswer(Record):
    """A reason for which the image is not screenable."""

    code: str = Field(description=f"{', '.join(UNFIT)} or unlike-training-images.")
    message: str = Field(description="The reason in words.")
    detail: str = Field(description="The measured value and its limit, or the view or body part of the DICOM header.")


class PredictionSetAnswer(Record):
    """The classes that the image may have.

    An empty set means that no class reaches its threshold, as for some images of each class. It excludes no class.
    """

    labels: list[str] = Field(description="Classes whose probability reaches their threshold.")
    coverage: float = Field(description="Share of each class's images, 0 to 1, whose set is to contain their class.")
    not_stated: list[str] = Field(description="Classes with too few patients in the study, which are in no set.")
    meaning: str = Field(description="What the set states and for which images, in words.")


class Explanation(Record):
    """A heatmap for the label. Both pictures are squares of the same size, to be laid over each other."""

    target: str = Field(description="The label that is explained.")
    image_png: str = Field(description="Base64 PNG: the letterboxed image, grey.")
    heatmap_png: str | None = Field(
        None, description="Base64 PNG, more opaque where a region increases the probability of the label."
    )
    missing: str | None = Field(None, description="Why there is no heatmap, if there is none.")


class Timings(Record):
    """Milliseconds in the server; `null` for a stage that was not needed."""

    upload: float
    waiting: float = Field(description="For a free thread.")
    decode: float
    inference: float
    explanation: float | None = None
    total: float


class ScreenAnswer(Record):
    """The answer for an image. If it is not screenable there are no label and no probabilities."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SCREENED, _NOT_SCREENABLE]})

    request_id: str
    model: ModelName
    decision: Decision
    reason: str = Field(description="The decision in a sentence.")
    label: str | None = Field(None, description="The most probable of the seven classes.")
    probabilities: dict[str, float] | None = Field(
        None, description="Calibrated probabilities of the seven classes; they sum to 1."
    )
    covid19_probability: float | None = None
    prediction_set: PredictionSetAnswer | None = Field(None, description="The classes that the image may have.")
    operating_point: DecisionRule
    findings: list[FindingAnswer] = Field(description="Why the image is not screenable; empty if it is.")
    explanation: Explanation | None = Field(None, description="With ?explain=true, for a screenable image.")
    timings_ms: Timings
    notice: str = NOTICE


class ProblemAnswer(Record):
    """Problem details (RFC 9457)."""

    model_config = ConfigDict(extra="ignore", json_schema_extra={"examples": [_PROBLEM]})

    type: str = Field(description="Address of a description of this problem type.")
    title: str = Field(description="What is wrong.")
    status: int
    detail: str = Field(description="What to do.")
    reason: str = Field(description="The last part of `type`, for programs.")
    request_id: str


class BatchItem(Record):
    """The result or the problem of one image of a batch; `index` is its place in the request, from 0."""

    index: int
    result: ScreenAnswer | None = None
    problem: ProblemAnswer | None = None


class BatchAnswer(Record):
    """The results and problems of a batch, in the order of its files."""

    model_config = ConfigDict(json_schema_extra={"examples": [_BATCH]})

    request_id: str
    items: list[BatchItem]
    notice: str = NOTICE


class ModelAnswer(Record):
    """The model that answers: its origin, and its out-of-fold performance."""

    model_config = ConfigDict(json_schema_extra={"examples": [_FULL_MODEL]})

    version: str
    strategy: str
    synthetic: bool
    better_than_majority: bool = Field(
        description="False if the study did not show it to be better than always naming the most frequent class."
    )
    created: datetime
    labels: list[str]
    positive_class: str
    input_size: int = Field(description="Side of the network's input in pixels.")
    temperature: float = Field(description="Temperature of the calibration.")
    operating_point: OperatingPoint
    prediction_sets: PredictionSets
    metrics: dict[str, Interval] = Field(description="Out-of-fold metrics of the study: percent, or ratios from 0.")
    study: str
    protocol: str
    images: int = Field(description="Images in the folds of the study.")
    winner: str = Field(description="The strategy with the best result in the study.")
    notice: str = NOTICE


class Alive(Record):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Ready(Record):
    """A model is loaded and warm; how far a change of the champion is."""

    status: Literal["ready"] = "ready"
    version: str
    pending: str | None = Field(None, description="A new champion that does not answer yet.")
    refused: list[str] = Field(description="Champions that cannot be loaded; the previous one answers.")
    registry_readable: bool

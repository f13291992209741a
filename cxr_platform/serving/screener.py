"""Screen an image with a bundle: decoding, quality, ONNX Runtime, calibration, the decision at the operating point.

Ray is not needed, and TensorFlow only for DICOM that the decoders of pydicom cannot read (`intake.dicom_pixels`).
Several threads may use one `Screener`.
"""

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr_platform.config import IntakeConfig
from cxr_platform.domain.operating_point import DecisionRule, is_negative, is_positive
from cxr_platform.errors import BundleError
from cxr_platform.intake.candidate import REASONS, UNFIT
from cxr_platform.intake.dicom_source import DicomSource
from cxr_platform.intake.eligibility import DecodedImage, judge_image
from cxr_platform.intake.images import read_image
from cxr_platform.intake.letterbox import resize_images
from cxr_platform.intake.lung_views import stacked_views
from cxr_platform.monitoring.drift import Observation
from cxr_platform.monitoring.reference import parse_reference
from cxr_platform.registry.bundle import (
    DISAGREEMENT,
    FEATURES,
    IMAGES,
    LOGITS,
    ONNX,
    REFERENCE,
    Bundle,
    Preprocessing,
    read_member,
)
from cxr_platform.serving.schema import Decision

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"

MAX_BATCH = 8
"""Images per call of the network: bounds the memory of a long batch, and measured to cost no time."""

UNLIKE_TRAINING = "unlike-training-images"
FINDINGS = {
    **{code: REASONS[code] for code in UNFIT},
    UNLIKE_TRAINING: "the network's features of the image are far from those of the training images",
}
"""Codes and texts of the reasons for which an image is not screenable."""


@dataclass(frozen=True)
class Finding:
    """A reason for which an image is not screenable. `detail` gives the measured value and its limit, or the view."""

    code: str
    detail: str

    @property
    def message(self) -> str:
        """The text of the code."""
        return FINDINGS[self.code]


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """A decoded image: `letterboxed` (L, L) uint8 of a file of `width` × `height` pixels, with `image`, what the
    network gets of it (`Preprocessing.input_shape`); `brightness`, `contrast`, `padding` 0 to 1.

    `findings` are those of `judge_image`; `seconds` is the duration of decoding and measuring; `source` is the patient
    and study of a DICOM image for which a document was asked for.
    """

    letterboxed: NDArray[np.uint8]
    width: int
    height: int
    image: NDArray[np.uint8]
    container: str
    brightness: float
    contrast: float
    padding: float
    findings: tuple[Finding, ...]
    seconds: float
    source: DicomSource | None = None


@dataclass(frozen=True, eq=False)
class Screening:
    """The result for an image. `probabilities` (7,) are calibrated, in the order of the bundle's labels.

    With `findings` the decision is "not-screenable", and the probabilities must not be used. With `disagreement` of the
    two heads of a gate it is indeterminate.
    """

    prepared: PreparedImage
    label: str
    probabilities: NDArray[np.float64]
    covid19: float
    decision: Decision
    findings: tuple[Finding, ...]
    distance: float
    seconds: float
    disagreement: bool = False

    @property
    def observation(self) -> Observation:
        """The values that monitoring compares with the bundle's reference."""
        return Observation(
            label=self.label,
            confidence=float(self.probabilities.max()),
            covid19=self.covid19,
            brightness=self.prepared.brightness,
            contrast=self.prepared.contrast,
            padding=self.prepared.padding,
            distance=self.distance,
        )


class Screener:
    """The network of a bundle with its preprocessing, calibration and decision rule.

    `threads` limits the processor threads of one call of the network (`None`: all).
    """

    def __init__(self, folder: Path, bundle: Bundle, threads: int | None = None) -> None:
        self.bundle = bundle
        self.reference = parse_reference(read_member(folder, bundle, REFERENCE), str(folder / REFERENCE))
        self._session = open_session(read_member(folder, bundle, ONNX), threads)
        self._has_gate = any(output.name == DISAGREEMENT for output in self._session.get_outputs())

    def prepare(self, data: bytes, with_source: bool = False) -> PreparedImage:
        """See `prepare_image`."""
        return prepare_image(data, self.bundle.preprocessing, with_source)

    def screen(self, prepared: Sequence[PreparedImage]) -> list[Screening]:
        """Return the result for each image."""
        starts = range(0, len(prepared), MAX_BATCH)
        return [screening for start in starts for screening in self._screen(prepared[start : start + MAX_BATCH])]

    def warm_up(self) -> None:
        """Screen a grey image, so that libraries are loaded before the first request."""
        buffer = io.BytesIO()
        Image.new("L", (256, 256), 128).save(buffer, "PNG")
        self.screen([self.prepare(buffer.getvalue())])

    def _screen(self, prepared: Sequence[PreparedImage]) -> list[Screening]:
        began = time.perf_counter()
        outputs = [LOGITS, FEATURES, *([DISAGREEMENT] if self._has_gate else [])]
        logits, features, *gate = self._session.run(outputs, {IMAGES: np.stack([p.image for p in prepared])})
        disagreements = gate[0][:, 0] if gate else np.zeros(len(prepared), bool)
        probabilities = calibrated_probabilities(logits, self.bundle.temperature)
        distances = self.reference.distance(features)
        seconds = (time.perf_counter() - began) / len(prepared)
        rows = zip(prepared, probabilities, distances, disagreements, strict=True)
        return [self._screening(*image, seconds) for image in rows]

    def _screening(
        self,
        prepared: PreparedImage,
        probabilities: NDArray[np.float64],
        distance: float,
        disagreement: bool,
        seconds: float,
    ) -> Screening:
        labels = self.bundle.labels
        covid19 = float(probabilities[labels.index(self.bundle.positive_class)])
        findings = (*prepared.findings, *distance_findings(distance, self.reference.limit))
        decision: Decision = "indeterminate" if disagreement else decide(covid19, self.bundle.operating_point)
        return Screening(
            prepared=prepared,
            label=labels[int(probabilities.argmax())],
            probabilities=probabilities,
            covid19=covid19,
            decision="not-screenable" if findings else decision,
            findings=findings,
            distance=float(distance),
            seconds=seconds,
            disagreement=bool(disagreement),
        )


def prepare_image(data: bytes, preprocessing: Preprocessing, with_source: bool = False) -> PreparedImage:
    """Decode and measure the bytes of a PNG, JPEG or DICOM file as the manifest does; or raise `ImageRefused`.

    `with_source` also reads the patient and study of a DICOM image.
    """
    began = time.perf_counter()
    image = read_image(data, preprocessing.intake, with_source)
    return PreparedImage(
        letterboxed=image.pixels,
        width=image.width,
        height=image.height,
        image=network_image(image.pixels, image.width, image.height, preprocessing),
        container=image.container,
        brightness=image.mean,
        contrast=image.std,
        padding=image.padding_fraction,
        findings=intake_findings(image, preprocessing.intake),
        seconds=time.perf_counter() - began,
        source=image.source,
    )


def network_image(
    letterboxed: NDArray[np.uint8], width: int, height: int, preprocessing: Preprocessing
) -> NDArray[np.uint8]:
    """Return what the network gets, uint8 `preprocessing.input_shape`, of an image (L, L) as in training."""
    images, size = letterboxed[np.newaxis], preprocessing.input_size
    if preprocessing.views is None:
        return np.asarray(resize_images(images, size)[0])
    sides = np.array([width]), np.array([height])
    return np.asarray(stacked_views(preprocessing.views, images, *sides, size)[0])


def intake_findings(image: DecodedImage, config: IntakeConfig) -> tuple[Finding, ...]:
    """Return the reason for which a manifest excludes such an image; empty for a usable one."""
    refusal = judge_image(image, config)
    return () if refusal is None else (Finding(refusal.reason, refusal.detail),)


def distance_findings(distance: float, limit: float) -> tuple[Finding, ...]:
    """Return a finding if the features of an image are further from the training images than `limit`, or NaN."""
    if distance <= limit:
        return ()
    return (Finding(UNLIKE_TRAINING, f"distance {distance:.1f}, at most {limit:.1f}"),)


def calibrated_probabilities(logits: NDArray[np.floating[Any]], temperature: float) -> NDArray[np.float64]:
    """Return the probabilities (B, 7) of logits (B, 7) by temperature scaling (Guo et al. 2017, section 4.2)."""
    scaled = np.asarray(logits, np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def decide(covid19: float, rule: DecisionRule) -> Decision:
    """Return the decision for a calibrated Covid19 probability; within the zone it is indeterminate."""
    if is_positive(covid19, rule.zone):
        return "positive"
    return "negative" if is_negative(covid19, rule.zone) else "indeterminate"


def open_session(graph: bytes, threads: int | None) -> "InferenceSession":
    """Return an ONNX Runtime session for the bytes of a graph, on a GPU if there is one.

    Each call uses up to `threads` processor threads (`None`: all). Raises `BundleError` if the graph cannot be opened.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # By default waiting threads spin, which on few cores takes processor time from decoding the next image.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(graph, options, providers=execution_providers())
    except Exception as error:  # ONNX Runtime has an exception class for each of its status codes
        raise BundleError(
            "Expected a graph that ONNX Runtime can open.",
            received=type(error).__name__,
            advice="Build the bundle again.",
        ) from error


def execution_providers() -> list[str]:
    """Return CUDA if this ONNX Runtime supports it (`onnxruntime-gpu`) and there is a GPU, then the processor."""
    import onnxruntime

    return [name for name in (CUDA, CPU) if name in onnxruntime.get_available_providers()]

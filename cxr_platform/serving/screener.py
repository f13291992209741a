"""From the bytes of an image to an answer: decoding by intake, ONNX Runtime, calibration, the operating point.

No Ray here, and no TensorFlow unless the image is a DICOM object. A screener may be used by several threads at once.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cxr_platform.config import IntakeConfig
from cxr_platform.domain.operating_point import is_negative, is_positive
from cxr_platform.intake.images import read_image
from cxr_platform.intake.letterbox import resize_images
from cxr_platform.monitoring.drift import Observation
from cxr_platform.monitoring.reference import parse_reference
from cxr_platform.registry.bundle import (
    FEATURES,
    IMAGES,
    LOGITS,
    ONNX,
    REFERENCE,
    Bundle,
    OperatingPoint,
    Preprocessing,
    read_member,
)
from cxr_platform.serving.findings import Finding, distance_findings, quality_findings
from cxr_platform.serving.runtime import open_session

CHUNK = 8
"""Images a call of the network: what a long batch may add to memory, measured to cost no time."""

Decision = Literal["positive", "negative", "indeterminate", "not-screenable"]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A decoded image. `letterboxed` (L, L) and `image` (S, S) uint8; `brightness`, `contrast`, `padding` from 0 to 1.

    `findings` are those of its quality; `seconds` is what decoding and measuring took.
    """

    letterboxed: NDArray[np.uint8]
    image: NDArray[np.uint8]
    container: str
    brightness: float
    contrast: float
    padding: float
    findings: tuple[Finding, ...]
    seconds: float


@dataclass(frozen=True, eq=False)
class Screening:
    """What the champion says of an image. `probabilities` (7,) are calibrated, in the order of the bundle's labels.

    `decision` is "not-screenable" where there are `findings`: then nothing else of it should be acted on.
    """

    prepared: Prepared
    label: str
    probabilities: NDArray[np.float64]
    covid19: float
    decision: Decision
    findings: tuple[Finding, ...]
    distance: float
    seconds: float

    @property
    def observation(self) -> Observation:
        """What monitoring keeps of it."""
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
    """The champion of a bundle, ready to answer. `threads` is what one call of the network may use (`None`: all)."""

    def __init__(self, folder: Path, bundle: Bundle, threads: int | None = None) -> None:
        self.folder = folder
        self.bundle = bundle
        self.reference = parse_reference(read_member(folder, bundle, REFERENCE), str(folder / REFERENCE))
        self._session = open_session(read_member(folder, bundle, ONNX), threads)

    def prepare(self, data: bytes) -> Prepared:
        """Decode the bytes of a PNG, JPEG or DICOM file, as the manifest does; `ImageRefused` for everything else."""
        return prepare(data, self.bundle.preprocessing)

    def screen(self, prepared: Sequence[Prepared]) -> list[Screening]:
        """The answer for each image."""
        starts = range(0, len(prepared), CHUNK)
        return [screening for start in starts for screening in self._screen(prepared[start : start + CHUNK])]

    def warm_up(self) -> None:
        """Answer for a grey image, so that no person pays for what libraries load when first used."""
        import io

        from PIL import Image

        buffer = io.BytesIO()
        Image.new("L", (256, 256), 128).save(buffer, "PNG")
        self.screen([self.prepare(buffer.getvalue())])

    def _screen(self, prepared: Sequence[Prepared]) -> list[Screening]:
        began = time.perf_counter()
        logits, features = self._session.run([LOGITS, FEATURES], {IMAGES: np.stack([p.image for p in prepared])})
        probabilities = calibrated(logits, self.bundle.temperature)
        distances = self.reference.distance(features)
        seconds = (time.perf_counter() - began) / len(prepared)
        return [self._answer(*image, seconds) for image in zip(prepared, probabilities, distances, strict=True)]

    def _answer(self, prepared: Prepared, row: NDArray[np.float64], distance: float, seconds: float) -> Screening:
        labels = self.bundle.labels
        covid19 = float(row[labels.index(self.bundle.positive_class)])
        findings = (*prepared.findings, *distance_findings(distance, self.reference.limit))
        return Screening(
            prepared=prepared,
            label=labels[int(row.argmax())],
            probabilities=row,
            covid19=covid19,
            decision="not-screenable" if findings else decide(covid19, self.bundle.operating_point),
            findings=findings,
            distance=float(distance),
            seconds=seconds,
        )


def prepare(data: bytes, preprocessing: Preprocessing) -> Prepared:
    """Decode the bytes of a PNG, JPEG or DICOM file, as the manifest does; `ImageRefused` for everything else."""
    began = time.perf_counter()
    image = read_image(data, IntakeConfig(decoding=preprocessing.decoding, quality=preprocessing.quality))
    resized = resize_images(image.pixels[np.newaxis], preprocessing.input_size)
    return Prepared(
        letterboxed=image.pixels,
        image=resized[0],
        container=image.container,
        brightness=image.mean,
        contrast=image.std,
        padding=image.padding_fraction,
        findings=quality_findings(image.quality, preprocessing.quality),
        seconds=time.perf_counter() - began,
    )


def calibrated(logits: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """Probabilities (B, 7) of logits (B, 7) by temperature scaling (Guo et al. 2017, section 4.2)."""
    scaled = np.asarray(logits, np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def decide(covid19: float, point: OperatingPoint) -> Decision:
    """The decision at the operating point, whose zone belongs to neither side."""
    if is_positive(covid19, point.zone):
        return "positive"
    return "negative" if is_negative(covid19, point.zone) else "indeterminate"

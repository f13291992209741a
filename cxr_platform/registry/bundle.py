"""A bundle: a folder with the files of one model version, described by its `bundle.json`.

Every file is compared with its checksum when a bundle is opened, and the folder may hold no other files.
"""

import re
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, model_validator
from typing_extensions import Self

from cxr_platform.config import (
    Count,
    DecodingConfig,
    IntakeConfig,
    ModelConfig,
    Positive,
    Precision,
    Protocol,
    QualityConfig,
    SelectionConfig,
    View,
)
from cxr_platform.domain.interval import Interval, check_percent, check_range
from cxr_platform.domain.operating_point import OperatingPoint
from cxr_platform.domain.prediction_set import PredictionSets
from cxr_platform.domain.strategies import ROBUST
from cxr_platform.domain.study import Hardware
from cxr_platform.errors import BundleError
from cxr_platform.labels import CLASSES, POSITIVE_CLASS
from cxr_platform.registry.checksums import Checksum, check_bytes, check_folder, folder_checksums, read_bytes
from cxr_platform.storage.files import write_atomically
from cxr_platform.validation import Record, UtcTime, parse_record

DESCRIPTION = "bundle.json"
WEIGHTS = "model.weights.h5"
ONNX = "model.onnx"
REFERENCE = "reference.json"
MODEL_CARD = "MODEL_CARD.md"
MEMBERS = (WEIGHTS, ONNX, REFERENCE, MODEL_CARD)
"""Every file of a bundle besides its description."""

IMAGES, LOGITS, FEATURES = "images", "logits", "features"
"""Input and outputs of the graph in `ONNX`: (B, S, S) uint8, or (B, V, S, S) views → (B, 7) and (B, F) float32."""
DISAGREEMENT = "disagreement"
"""Further output (B, 1) bool of a network with a gate: its heads disagree, so that the answer is indeterminate."""

REQUIRED_METRICS = ("accuracy_7_class", "sensitivity", "specificity")
VERSION = re.compile(r"v[1-9][0-9]{0,8}")
ADVICE = "The file was edited or is of another version of the platform: make the bundle again, or restore a backup."


def _check_version(version: str) -> str:
    if not VERSION.fullmatch(version):
        raise ValueError("a version: v1, v2, …")
    return version


def _check_metric(metric: Interval) -> Interval:
    return check_range(metric, 2, "a ratio from 0 to 2") if metric.ratio else check_percent(metric)


VersionName: TypeAlias = Annotated[str, AfterValidator(_check_version)]
MetricInterval: TypeAlias = Annotated[Interval, AfterValidator(_check_metric)]
"""In percent, or a ratio up to 2: that is the largest Brier score of several classes."""


class StudySummary(Record):
    """The study behind the out-of-fold metrics; `images` are those in its folds, `profile` is a name.

    `majority_accuracy` is the 7-class accuracy, in percent, of always naming the most frequent class.
    """

    name: str
    protocol: Protocol
    manifest_hash: str = Field(min_length=1)
    images: Count
    majority_accuracy: float = Field(ge=0, le=100)
    folds: int = Field(ge=2)
    profile: str
    winner: str
    strategies: tuple[str, ...]

    @model_validator(mode="after")
    def _check_winner(self) -> Self:
        if self.winner not in self.strategies:
            raise ValueError(f"winner to be one of strategies, not {self.winner!r}")
        return self


class Preprocessing(Record):
    """From a file to the network's input: decode, letterbox to `decoding.image_size`, Lanczos to `input_size`.

    With `views` the network gets these views of the letterboxed image (`intake.lung_views`), otherwise the image alone.
    `quality` and `frontal_only` decide which images are screened, as they decided which became rows of the manifest.
    """

    decoding: DecodingConfig
    quality: QualityConfig
    frontal_only: bool
    input_size: int = Field(ge=32)
    views: tuple[View, ...] | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of what the network gets of an image: (S, S), or (V, S, S)."""
        views = () if self.views is None else (len(self.views),)
        return (*views, self.input_size, self.input_size)

    @property
    def intake(self) -> IntakeConfig:
        """The same settings for `images.read_image` and `eligibility.judge_image`."""
        return IntakeConfig(self.decoding, self.quality, SelectionConfig(frontal_only=self.frontal_only))

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        if self.input_size > self.decoding.image_size:
            raise ValueError(f"input_size up to decoding.image_size, {self.decoding.image_size}, not {self.input_size}")
        return self


class TrainingSummary(Record):
    """How the weights were trained: on all `images`, in `epochs`, within `seconds`.

    `precision` is absent in bundles of earlier versions.
    """

    images: Count
    epochs: Count
    seconds: float = Field(ge=0)
    seed: int
    backend: str
    precision: Precision | None = None
    hardware: Hardware
    versions: dict[str, str]


class Parity(Record):
    """Largest difference of a probability between ONNX Runtime and Keras over `images` of the manifest."""

    images: Count
    max_abs_difference: float = Field(ge=0)
    tolerance: float

    @model_validator(mode="after")
    def _check_tolerance(self) -> Self:
        if self.max_abs_difference > self.tolerance:
            raise ValueError(f"max_abs_difference up to tolerance, {self.tolerance:g}, not {self.max_abs_difference:g}")
        return self


class Bundle(Record):
    """Content of `bundle.json`. `metrics` are out-of-fold, named as in the report.

    `synthetic` marks a model trained on phantoms. `write_bundle` fills `files`.
    """

    schema_version: Literal[6] = 6
    version: VersionName
    created: UtcTime
    synthetic: bool
    study: StudySummary
    strategy: str
    labels: tuple[str, ...]
    positive_class: str
    preprocessing: Preprocessing
    model: ModelConfig
    temperature: Positive
    operating_point: OperatingPoint
    prediction_sets: PredictionSets
    metrics: dict[str, MetricInterval]
    training: TrainingSummary
    parity: Parity
    files: dict[str, Checksum] = Field(default_factory=dict)

    @property
    def better_than_majority(self) -> bool:
        """True if the interval of the 7-class accuracy lies above that of always naming the most frequent class."""
        accuracy = self.metrics["accuracy_7_class"]
        low = accuracy.value if accuracy.low is None else accuracy.low
        return low is not None and low > self.study.majority_accuracy

    @model_validator(mode="after")
    def _check_parts_fit(self) -> Self:
        size = self.preprocessing.input_size
        missing = [name for name in REQUIRED_METRICS if name not in self.metrics]
        ratios = [name for name in REQUIRED_METRICS if name in self.metrics and self.metrics[name].ratio]
        rules = {
            f"labels to be {', '.join(CLASSES)}": self.labels == CLASSES,
            f"positive_class to be {POSITIVE_CLASS}": self.positive_class == POSITIVE_CLASS,
            f"strategy to be one of study.strategies, not {self.strategy!r}": self.strategy in self.study.strategies,
            "preprocessing.views for the strategy robust, and for no other": (self.preprocessing.views is not None)
            == (self.strategy == ROBUST),
            f"model.input_size to be preprocessing.input_size, {size}": self.model.input_size == size,
            "prediction_sets.classes to be the labels, in their order": tuple(
                part.label for part in self.prediction_sets.classes
            )
            == self.labels,
            f"metrics to hold {', '.join(REQUIRED_METRICS)}": not missing,
            f"{', '.join(REQUIRED_METRICS)} in percent": not ratios,
        }
        for rule, kept in rules.items():
            if not kept:
                raise ValueError(rule)
        return self


def write_bundle(folder: Path, bundle: Bundle) -> Bundle:
    """Describe the files in `folder` by its bundle.json and return `bundle` with their checksums.

    Raise `BundleError` for a file that is missing, a file too many, or a description that could not be read again.
    """
    described = bundle.model_copy(update={"files": folder_checksums(folder, MEMBERS, besides=DESCRIPTION)})
    defect = "This is a defect of the code that made the bundle; nothing was written."
    try:
        content = described.to_json()
    except ValueError as error:
        raise BundleError(
            f"Expected plain values for {folder / DESCRIPTION}.", received=error, advice=defect
        ) from error
    written = parse_bundle(content, str(folder / DESCRIPTION), advice=defect)
    write_atomically(folder / DESCRIPTION, content)
    return written


def read_bundle(folder: Path, expected_sha256: str | None = None) -> Bundle:
    """Return the bundle in `folder` after comparing every file with its checksum, bundle.json with `expected_sha256`.

    Raise `BundleError` with the file, what was expected and what was received.
    """
    return check_bundle(folder, read_description(folder, expected_sha256))


def read_description(folder: Path, expected_sha256: str | None = None) -> bytes:
    """Return the bytes of bundle.json in `folder` after comparing them with `expected_sha256`."""
    content = read_bytes(folder / DESCRIPTION, BundleError)
    if expected_sha256 is not None:
        check_bytes(folder / DESCRIPTION, content, expected_sha256)
    return content


def check_bundle(folder: Path, description: bytes) -> Bundle:
    """Return the bundle that the bytes of its bundle.json describe after comparing every file in `folder` with them."""
    bundle = parse_bundle(description, str(folder / DESCRIPTION))
    check_folder(folder, bundle.files, besides=DESCRIPTION)
    return bundle


def read_member(folder: Path, bundle: Bundle, name: str) -> bytes:
    """Return the bytes of one file of a bundle after comparing them with its checksum; else raise `BundleError`."""
    content = read_bytes(folder / name, BundleError)
    check_bytes(folder / name, content, bundle.files[name].sha256)
    return content


def parse_bundle(content: bytes, where: str, advice: str = ADVICE) -> Bundle:
    """Return the bundle that the bytes of a bundle.json describe; raise `BundleError` naming the key that is wrong."""
    bundle = parse_record(Bundle, content, where, BundleError, advice, complete=True)
    if {*bundle.files} != {*MEMBERS}:
        received = ", ".join(sorted(bundle.files))
        raise BundleError(f"{where}: files: expected {', '.join(MEMBERS)}.", received=received, advice=advice)
    return bundle

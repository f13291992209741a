"""A bundle: a folder with everything the champion needs, described by its `bundle.json`, in which every key is needed.

Opened, it is exactly what was written: each file is compared with its hash, and nothing else may lie in the folder.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from cxr_platform.config import DecodingConfig, ModelConfig, Protocol, QualityConfig
from cxr_platform.errors import BundleError
from cxr_platform.registry.bundle_rules import check_rules
from cxr_platform.registry.checksums import Stamp, check_bytes, check_contents, stamps
from cxr_platform.registry.files import read_bytes
from cxr_platform.registry.strict_json import Mismatch, build, check_schema, json_tree, to_json
from cxr_platform.storage.files import write_atomically

SCHEMA_VERSION: Final = 2
DESCRIPTION = "bundle.json"
WEIGHTS = "model.weights.h5"
ONNX = "model.onnx"
REFERENCE = "reference.json"
MODEL_CARD = "MODEL_CARD.md"
MEMBERS = (WEIGHTS, ONNX, REFERENCE, MODEL_CARD)
"""Every file of a bundle besides its description."""

IMAGES, LOGITS, FEATURES = "images", "logits", "features"
"""Input and outputs of the graph in `ONNX`: (B, S, S) uint8 → (B, 7) and (B, F) float32."""

ADVICE = "The file was edited or is not of this platform: make the bundle again, or take it from a backup."


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval, `None` where undefined; percent or ratio as its measure is elsewhere."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class StudyFacts:
    """The study that the out-of-fold figures come from; `images` are those in its folds, `profile` is a name."""

    name: str
    protocol: Protocol
    manifest_hash: str
    images: int
    folds: int
    profile: str
    winner: str
    strategies: tuple[str, ...]


@dataclass(frozen=True)
class Preprocessing:
    """From a file to what the network sees: decode, letterbox to `decoding.image_size`, Lanczos to `input_size`."""

    decoding: DecodingConfig
    quality: QualityConfig
    input_size: int


@dataclass(frozen=True)
class Decided:
    """What the served rule (`decision`) says, in percent: of Covid19 images those called positive (`found`) and negative
    (`missed`), of the others those called negative (`cleared`) and positive (`alarmed`), of all those called neither.
    """

    found: Figure
    missed: Figure
    cleared: Figure
    alarmed: Figure
    undecided: Figure


@dataclass(frozen=True)
class OperatingPoint:
    """From which calibrated Covid19 probability, 0 to 1, an image is called positive: the upper end of `zone`; and below
    which one negative: the lower end.

    `zone` is the 95 % interval of `threshold`, which was chosen for `target_sensitivity` (0 to 1). Cross-fitted and in
    percent: `sensitivity` and `specificity` of the threshold alone, images of the zone counted by it, and `decided`.
    """

    target_sensitivity: float
    threshold: float
    zone: tuple[float, float]
    sensitivity: Figure
    specificity: Figure
    decided: Decided


@dataclass(frozen=True)
class TrainingFacts:
    """How the weights came to be: on all `images`, in `epochs`, within `seconds`."""

    images: int
    epochs: int
    seconds: float
    seed: int
    backend: str
    hardware: Mapping[str, Any]
    versions: Mapping[str, Any]


@dataclass(frozen=True)
class Parity:
    """The largest difference of a probability between ONNX Runtime and Keras over `images` of the manifest."""

    images: int
    max_abs_difference: float
    tolerance: float


@dataclass(frozen=True)
class Bundle:
    """The content of `bundle.json`. `metrics` are out-of-fold, by the names of the report's figures of merit.

    `synthetic` says that the images of training are phantoms; `created` is an ISO time in UTC; `files` is filled by
    `write_bundle`.
    """

    version: str
    created: str
    synthetic: bool
    study: StudyFacts
    strategy: str
    labels: tuple[str, ...]
    positive_class: str
    preprocessing: Preprocessing
    model: ModelConfig
    temperature: float
    operating_point: OperatingPoint
    metrics: Mapping[str, Figure]
    training: TrainingFacts
    parity: Parity
    files: Mapping[str, Stamp] = field(default_factory=dict)
    schema_version: Literal[2] = SCHEMA_VERSION


def write_bundle(folder: Path, bundle: Bundle) -> Bundle:
    """Describe the members that lie in `folder` in its bundle.json; returns `bundle` with their stamps.

    Raises `BundleError` for a member that is missing, a file too many, or values that cannot be right.
    """
    described = replace(bundle, files=stamps(folder, MEMBERS, besides=DESCRIPTION))
    try:
        content = to_json(asdict(described))
        parse_bundle(content, str(folder / DESCRIPTION))
    except (TypeError, ValueError) as error:
        raise BundleError(
            f"Expected a bundle of plain, finite values for {folder / DESCRIPTION}.",
            received=error,
            advice="This is a defect of what made the bundle; nothing was written.",
        ) from error
    write_atomically(folder / DESCRIPTION, content)
    return described


def read_bundle(folder: Path, expected_sha256: str | None = None) -> Bundle:
    """The bundle in `folder`, every byte of it compared with its hash; bundle.json itself with `expected_sha256`.

    Raises `BundleError` with the file, what was expected and what was received.
    """
    content = read_bytes(folder / DESCRIPTION, BundleError)
    if expected_sha256 is not None:
        check_bytes(folder / DESCRIPTION, content, expected_sha256)
    bundle = parse_bundle(content, str(folder / DESCRIPTION))
    check_contents(folder, bundle.files, besides=DESCRIPTION)
    return bundle


def read_member(folder: Path, bundle: Bundle, name: str) -> bytes:
    """The bytes of one file of a bundle, the very ones that were compared with its hash; else `BundleError`."""
    content = read_bytes(folder / name, BundleError)
    check_bytes(folder / name, content, bundle.files[name].sha256)
    return content


def parse_bundle(content: bytes, where: str) -> Bundle:
    """The bundle that the bytes of a bundle.json describe; `BundleError` names the key that is not as expected."""
    try:
        tree = json_tree(content)
        check_schema(tree, SCHEMA_VERSION)
        bundle = build(Bundle, tree)
        check_rules(bundle, MEMBERS)
    except Mismatch as mismatch:
        raise BundleError(
            f"{where}: expected {mismatch.expected}.", received=mismatch.received, advice=mismatch.advice or ADVICE
        ) from mismatch
    return bundle

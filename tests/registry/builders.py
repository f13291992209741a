"""Small bundles with made-up members, and registries of them."""

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from cxr_platform.config import DecodingConfig, ModelConfig, QualityConfig
from cxr_platform.domain.interval import Interval
from cxr_platform.domain.operating_point import DecisionRates, OperatingPoint
from cxr_platform.domain.prediction_set import ClassSets, PredictionSets
from cxr_platform.domain.study import Hardware
from cxr_platform.labels import CLASSES, POSITIVE_CLASS
from cxr_platform.registry.bundle import (
    MEMBERS,
    Bundle,
    Parity,
    Preprocessing,
    StudySummary,
    TrainingSummary,
    write_bundle,
)
from cxr_platform.registry.store import Registry
from cxr_platform.validation import Record

R = TypeVar("R", bound=Record)

CREATED = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)
RATES = DecisionRates(
    true_positive=Interval(85.0, 80.0, 90.0),
    false_negative=Interval(6.0),
    true_negative=Interval(93.0, 91.0, 95.0),
    false_positive=Interval(3.0),
    indeterminate=Interval(5.0, 4.0, 6.0),
)
POINT = OperatingPoint(
    target_sensitivity=0.95,
    threshold=0.25,
    zone=(0.2, 0.3),
    sensitivity=Interval(90.0, 85.0),
    specificity=Interval(96.0, 94.0, 98.0),
    decisions=RATES,
)
SETS = PredictionSets(
    coverage=0.9,
    classes=tuple(
        ClassSets(
            label=label,
            patients=4 if label == "Fibrosis" else 40,
            threshold=None if label == "Fibrosis" else 0.125,
            coverage=Interval(None) if label == "Fibrosis" else Interval(91.0, 85.0, 96.0),
        )
        for label in CLASSES
    ),
    mean_size=1.25,
    single=Interval(80.0, 76.0, 84.0),
    empty=Interval(1.0, 0.0, 2.0),
)
STUDY = StudySummary(
    name="test",
    protocol="grouped",
    manifest_hash="ab" * 32,
    images=300,
    majority_accuracy=25.0,
    folds=3,
    profile="quick",
    winner="scratch",
    strategies=("scratch", "fine-tuning-3"),
)
TRAINING = TrainingSummary(
    images=300,
    epochs=12,
    seconds=61.5,
    seed=2020,
    backend="tensorflow",
    hardware=Hardware(processor="test", processors=2),
    versions={"keras": "3.12"},
)


def changed(record: R, **changes: Any) -> R:
    """Return `record` with other values, which are not validated."""
    return record.model_copy(update=changes)


def preprocessing(input_size: int) -> Preprocessing:
    return Preprocessing(decoding=DecodingConfig(), quality=QualityConfig(), frontal_only=True, input_size=input_size)


def make_bundle(version: str = "v1", accuracy: float = 80.0, sensitivity: float = 90.0, **changes: Any) -> Bundle:
    """A bundle with these rates, in percent."""
    rates = {"accuracy_7_class": accuracy, "sensitivity": 88.0, "specificity": 97.0}
    bundle = Bundle(
        version=version,
        created=CREATED,
        synthetic=False,
        study=STUDY,
        strategy="scratch",
        labels=CLASSES,
        positive_class=POSITIVE_CLASS,
        preprocessing=preprocessing(96),
        model=ModelConfig(input_size=96),
        temperature=1.5,
        operating_point=changed(POINT, sensitivity=Interval(sensitivity, sensitivity - 5, None)),
        prediction_sets=SETS,
        metrics={name: Interval(value, value - 2, min(100.0, value + 2)) for name, value in rates.items()}
        | {"roc_auc": Interval(0.97, 0.95, 0.98, ratio=True)},
        training=TRAINING,
        parity=Parity(images=50, max_abs_difference=2e-6, tolerance=1e-4),
    )
    return changed(bundle, **changes)


def write_members(folder: Path, salt: str = "") -> None:
    """The four members of a bundle, made up."""
    for name in MEMBERS:
        (folder / name).write_text(f"{name} {salt}" * 50, encoding="utf-8")


def filler(**figures: Any) -> Callable[[Path, str], Bundle]:
    """Return what `Registry.add` calls: it writes the members of a bundle and returns the bundle."""

    def fill(folder: Path, version: str) -> Bundle:
        write_members(folder, version)
        return make_bundle(version, **figures)

    return fill


def write_one(folder: Path, **figures: Any) -> Bundle:
    """A bundle in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_members(folder)
    return write_bundle(folder, make_bundle(**figures))


def make_registry(root: Path, *accuracies: float) -> Registry:
    """A registry with one version for each 7-class accuracy; none of them is the champion."""
    registry = Registry(root)
    for accuracy in accuracies:
        registry.add(filler(accuracy=accuracy))
    return registry

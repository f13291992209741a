"""Small bundles with made-up members, and registries of them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from cxr_platform.config import DecodingConfig, ModelConfig, QualityConfig
from cxr_platform.labels import CLASSES, POSITIVE_CLASS
from cxr_platform.registry.bundle import (
    MEMBERS,
    Bundle,
    Decided,
    Figure,
    OperatingPoint,
    Parity,
    Preprocessing,
    StudyFacts,
    TrainingFacts,
    write_bundle,
)
from cxr_platform.registry.store import Registry

DECIDED = Decided(
    found=Figure(85.0, 80.0, 90.0),
    missed=Figure(6.0),
    cleared=Figure(93.0, 91.0, 95.0),
    alarmed=Figure(3.0),
    undecided=Figure(5.0, 4.0, 6.0),
)


def make_bundle(version: str = "v1", accuracy: float = 80.0, sensitivity: float = 90.0, **changes: Any) -> Bundle:
    """A bundle whose figures are as given, in percent."""
    rates = {"accuracy_7_class": accuracy, "sensitivity": 88.0, "specificity": 97.0}
    bundle = Bundle(
        version=version,
        created="2026-01-31T12:00:00+00:00",
        synthetic=False,
        study=StudyFacts("test", "grouped", "ab" * 32, 300, 3, "quick", "scratch", ("scratch", "fine-tuning-3")),
        strategy="scratch",
        labels=CLASSES,
        positive_class=POSITIVE_CLASS,
        preprocessing=Preprocessing(DecodingConfig(), QualityConfig(), 96),
        model=ModelConfig(input_size=96),
        temperature=1.5,
        operating_point=OperatingPoint(
            0.95,
            0.25,
            (0.2, 0.3),
            Figure(sensitivity, sensitivity - 5, None),
            Figure(96.0, 94.0, 98.0),
            DECIDED,
        ),
        metrics={name: Figure(value, value - 2, min(100.0, value + 2)) for name, value in rates.items()}
        | {"roc_auc": Figure(0.97, 0.95, 0.98)},
        training=TrainingFacts(300, 12, 61.5, 2020, "tensorflow", {"gpus": []}, {"keras": "3.12"}),
        parity=Parity(50, 2e-6, 1e-4),
    )
    return replace(bundle, **changes)


def write_members(folder: Path, salt: str = "") -> None:
    """The four members of a bundle, made up."""
    for name in MEMBERS:
        (folder / name).write_text(f"{name} {salt}" * 50, encoding="utf-8")


def filler(**figures: Any) -> Callable[[Path, str], Bundle]:
    """What `Registry.add` is given: members, and a bundle with `figures` as `make_bundle` takes them."""

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

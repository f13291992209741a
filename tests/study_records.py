"""Records of made-up studies and trials."""

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from cxr_platform.config import load_profile
from cxr_platform.domain.study import (
    Hardware,
    ManifestFacts,
    StudyRecord,
    TrialImages,
    TrialRecord,
    TrialSeconds,
    TrialState,
)
from cxr_platform.validation import Record

STARTED = datetime(2026, 11, 20, 10, tzinfo=timezone.utc)
HARDWARE = Hardware(processor="Xeon", processors=2)


def manifest_facts(**changes: Any) -> ManifestFacts:
    """56 images of a manifest with the content hash `abc`."""
    facts: dict[str, Any] = {
        "content_hash": "abc",
        "path": "made",
        "images": 56,
        "study_images": 56,
        "known_patients": {},
    }
    return ManifestFacts(**{**facts, "synthetic": True, "counts": {}, **changes})


def study_record(**changes: Any) -> StudyRecord:
    """Scratch on the folds of the profile `quick`."""
    profile = changes.get("profile", load_profile("quick"))
    values: dict[str, Any] = {
        "name": "test",
        "protocol": "grouped",
        "strategies": ("scratch",),
        "folds": profile.folds,
        "identity": {},
        "profile": profile,
        "manifest": manifest_facts(),
        "versions": {"python": "3.11.9", "keras": "3.15.1"},
        "hardware": HARDWARE,
        "started": STARTED,
    }
    return StudyRecord(**{**values, **changes})


def trial_record(strategy: str = "scratch", fold: int = 0, seconds: float = 60.0, **changes: Any) -> TrialRecord:
    """A trial of `seconds` on two processors and a quarter of a GPU of node `a`."""
    values: dict[str, Any] = {
        "strategy": strategy,
        "fold": fold,
        "identity": {},
        "cut": None,
        "trained_layers": (),
        "images": TrialImages(train=28, test=28),
        "epochs": 4,
        "loss_fall": 0.01,
        "accuracy": 0.5,
        "seconds": TrialSeconds(total=seconds, earlier=0.0, set_up=1.0, prediction=1.0),
        "seed": 1,
        "backend": "tensorflow",
        "node": "a",
        "cpus": 2.0,
        "gpus": 0.25,
        "devices": 1,
        "precision": "float32",
        "deterministic": True,
        "started": STARTED,
        "finished": STARTED + timedelta(seconds=seconds),
        "versions": {"keras": "3.15.1"},
        "hardware": HARDWARE,
    }
    return TrialRecord(**{**values, **changes})


def trial_state(strategy: str = "scratch", fold: int = 0, **changes: Any) -> TrialState:
    """A trial on node `b` after one of four epochs."""
    values: dict[str, Any] = {
        "strategy": strategy,
        "fold": fold,
        "node": "b",
        "started": STARTED,
        "updated": STARTED,
        "epoch": 1,
        "epochs": 4,
        "seconds": 50.0,
        "cpus": 2.0,
        "gpus": 0.25,
    }
    return TrialState(**{**values, **changes})


def write_record(file: Path, record: Record) -> Path:
    """Write `record` as training does, with the folders above it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(record.to_json())
    return file

"""A study whose trials sleep instead of training; all else, from the reports to the files, is that of any study.

A trial starts, reports and stores itself as others do. Its network is one layer, and a step takes `seconds`.
"""

import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from cxr_platform.config import Precision, Profile, load_profile
from cxr_platform.domain.strategies import Strategy
from cxr_platform.domain.study import ManifestFacts, TrialRecord
from cxr_platform.labels import CLASSES
from cxr_platform.models.mobilenet import Network
from cxr_platform.training.data import StudyData
from cxr_platform.training.folder import StudyFolder
from cxr_platform.training.inputs import Index, Inputs
from cxr_platform.training.plan import Share, StudyPlan
from cxr_platform.training.progress import StudyProgress
from cxr_platform.training.step import Step, Steps, StepState
from cxr_platform.training.study import StudyRun
from cxr_platform.training.trial import Workbench

STRATEGY = "scratch"
SIDE = 32


@dataclass(frozen=True)
class SleepingStudy(StudyRun):
    """A study of one epoch of one step, which takes `seconds`."""

    seconds: float = 0.0

    def workbench(self, share: Share, precision: Precision | None = None, devices: int = 1) -> Workbench:
        """Return a workbench with that step."""
        usual = super().workbench(share, precision, devices)
        return SleepingWorkbench(
            usual.model, usual.training, usual.imagenet, usual.precision, usual.placement, seconds=self.seconds
        )


@dataclass
class SleepingWorkbench(Workbench):
    """A workbench whose networks are one layer, and whose step takes `seconds`."""

    seconds: float = field(default=0.0, kw_only=True)

    def set_up(self, strategy: Strategy, seed: int, input_size: int | None = None) -> tuple[Network, Step]:  # noqa: ARG002
        """Return the network and the step; neither depends on `seed` and `input_size`."""
        return Network(strategy, self.model, self._layer, self._layer, self._layer), SleepingStep(self.seconds)

    @cached_property
    def _layer(self) -> keras.Model:
        return keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(len(CLASSES), name="logits")])


class SleepingStep:
    """A `training.step.Step` that takes time and changes nothing."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def load(self, _inputs: Inputs) -> bool:
        """Return True: there is nothing to load."""
        return True

    def unload(self) -> None:
        """Do nothing."""

    def reset(self) -> None:
        """Do nothing."""

    def train(self, steps: Steps) -> tuple[NDArray[Any], NDArray[Any]]:
        """Sleep, and return losses and correct predictions (K,) of 0."""
        time.sleep(self._seconds)
        return np.zeros(len(steps.labels), "float32"), np.zeros(len(steps.labels), "int32")

    def logits(self, index: Index) -> NDArray[Any]:
        """Return zeros (K, B, 7)."""
        return np.zeros((*index[0].shape, len(CLASSES)), "float32")

    def sync(self) -> None:
        """Do nothing."""

    def state(self) -> StepState:
        """Return a state without arrays."""
        return {}

    def restore(self, state: StepState) -> None:
        """Do nothing."""


class NotedTimes(StudyProgress):
    """Notes when each trial ended and how long it took, and the processor time of this process until then.

    All in seconds; the ends since this object was made.
    """

    def __init__(self) -> None:
        super().__init__()
        self._made = time.monotonic()
        self.ends: list[float] = []
        self.seconds: list[float] = []
        self.processor: list[float] = []

    def finished(self, record: TrialRecord) -> None:
        """Note the end of a trial."""
        super().finished(record)
        self.ends.append(time.monotonic() - self._made)
        self.seconds.append(record.seconds.total)
        self.processor.append(time.process_time())


def sleeping_study(folder: Path, trials: int, seconds: float, trials_per_cpu: float = 1.0) -> SleepingStudy:
    """Return a study in `folder` with as many folds as `trials`, one image in each."""
    overrides: dict[str, object] = {
        "folds": trials,
        "model.input_size": SIDE,
        "training.batch_size": trials,
        "training.scratch": {"epochs": 1, "learning_rate": 0.001},
        "resources.cpu": 1 / trials_per_cpu,
        "resources.gpu": 0,
    }
    profile = replace(load_profile("quick", overrides), name="sleeping")
    labels = np.arange(trials) % len(CLASSES)
    names = np.array([f"image-{number:06d}" for number in range(trials)])
    images = np.zeros((trials, SIDE, SIDE), "uint8")
    data = StudyData(images, labels, np.arange(trials), names, names, np.array(["made"] * trials), names)
    plan = StudyPlan(folder.name, "grouped", (STRATEGY,), profile, _facts(trials, labels))
    return SleepingStudy(plan, StudyFolder(folder), data, None, seconds=seconds)


def _facts(images: int, labels: NDArray[Any]) -> ManifestFacts:
    counts = {name: {"made": int(count)} for name, count in zip(CLASSES, np.bincount(labels, minlength=7), strict=True)}
    return ManifestFacts(
        content_hash="sleeping",
        path="sleeping",
        images=images,
        study_images=images,
        synthetic=True,
        counts=counts,
        known_patients={"made": images},
    )


def places_of(profile: Profile, cpus: float, largest: float) -> int:
    """Return how many trials run at once on a cluster of `cpus` processors, `largest` of them on one node."""
    return max(1, int(cpus / min(profile.resources.cpu, largest) + 1e-6))

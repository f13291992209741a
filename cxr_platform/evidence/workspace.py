"""A finished study opened for looking into it: its images, folds, predictions and trained networks."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cxr_platform.config import Profile
from cxr_platform.domain.study import StudyRecord
from cxr_platform.errors import WeightsError
from cxr_platform.evaluation.predictions import Predictions
from cxr_platform.manifest.store import Manifest
from cxr_platform.models.initial_weights import BackboneWeights
from cxr_platform.models.weights import find_weights, load_backbone_weights
from cxr_platform.training.data import StudyData, load_study_data
from cxr_platform.training.folder import StudyFolder

Progress = Callable[[str, int, int], None]
"""Told what is done: a title, how much of it, out of how much."""


@dataclass(frozen=True, eq=False)
class Workspace:
    """One study with the manifest that it was run on. Heavy things are read when they are first asked for."""

    folder: StudyFolder
    study: StudyRecord
    predictions: Predictions
    winner: str
    manifest: Manifest
    progress: Progress
    named_weights: Path | None = None

    @property
    def profile(self) -> Profile:
        """The profile with which the study was run."""
        return self.study.profile

    @cached_property
    def data(self) -> StudyData:
        """The study images as trials saw them: uint8 (N, S, S) at the profile's input size."""
        protocol = self.study.protocol
        return load_study_data(self.manifest, protocol, self.study.folds, self.profile.model.input_size)

    @cached_property
    def imagenet(self) -> BackboneWeights:
        """ImageNet's weights; raises `WeightsError` where none are to be had."""
        if isinstance(self._imagenet, WeightsError):
            raise self._imagenet.with_traceback(None)  # else it would gather the frames of everyone who asks
        return self._imagenet

    @cached_property
    def _imagenet(self) -> BackboneWeights | WeightsError:
        """Looked for once, also in vain: each part of the report asks, and a silent network takes minutes to fail."""
        alpha = self.profile.model.alpha
        try:
            return load_backbone_weights(find_weights(alpha, self.named_weights), alpha)
        except WeightsError as error:
            return error

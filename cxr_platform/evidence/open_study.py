"""A finished study opened for analysis: its images, folds, predictions and ImageNet weights."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from cxr_platform.config import Profile
from cxr_platform.domain.study import StudyRecord
from cxr_platform.errors import WeightsError
from cxr_platform.evaluation.predictions import Array, Predictions
from cxr_platform.manifest.store import Manifest
from cxr_platform.models.initial_weights import BackboneWeights
from cxr_platform.models.weights import find_weights, load_backbone_weights
from cxr_platform.progress import Progress
from cxr_platform.training.data import StudyData, load_study_data
from cxr_platform.training.folder import StudyFolder

PROBED = 10_000
"""Images of analyses that need the features of all of them in memory at once."""


@dataclass(frozen=True, eq=False)
class OpenStudy:
    """One study with the manifest that it was run on. Images and weights are read on first use.

    `rows` are the row numbers of the images that are analysed, by default all.
    """

    folder: StudyFolder
    study: StudyRecord
    predictions: Predictions
    winner: str
    manifest: Manifest
    progress: Progress
    named_weights: Path | None = None
    rows: Array | None = None

    @property
    def profile(self) -> Profile:
        """Profile that the study was run with."""
        return self.study.profile

    @cached_property
    def data(self) -> StudyData:
        """Images of the study as its trials saw them: uint8 (N, S, S) at the profile's input size."""
        protocol, profile = self.study.protocol, self.profile
        size, cache_gib = profile.model.input_size, profile.resources.cache_gib
        data = load_study_data(self.manifest, protocol, self.study.folds, size, cache_gib=cache_gib)
        return data if self.rows is None else data.part(self.rows)

    @cached_property
    def probed(self) -> "OpenStudy":
        """This study with at most `PROBED` of its images, of patients drawn at random, for probes and their like."""
        groups = self.data.group_ids
        if len(groups) <= PROBED:
            return self
        names, group = np.unique(groups, return_inverse=True)
        turn = np.random.default_rng([self.profile.seed, 6]).permutation(len(names))[group]
        taken = np.cumsum(np.bincount(turn)) <= PROBED  # whole patients
        return replace(self, rows=np.flatnonzero(taken[turn]))

    @cached_property
    def origins(self) -> Array:
        """Origin of each image of `data`, str (N,)."""
        return np.array([self.study.manifest.origin_of(source) for source in self.data.sources])

    @cached_property
    def imagenet(self) -> BackboneWeights:
        """ImageNet weights; raises `WeightsError` if there are none."""
        if isinstance(self._imagenet, WeightsError):
            raise self._imagenet.with_traceback(None)  # else the traceback grows with every use
        return self._imagenet

    @cached_property
    def _imagenet(self) -> BackboneWeights | WeightsError:
        """The result of one search: several analyses need the weights, and a download may take minutes to fail."""
        alpha = self.profile.model.alpha
        try:
            return load_backbone_weights(find_weights(alpha, self.named_weights), alpha)
        except WeightsError as error:
            return error

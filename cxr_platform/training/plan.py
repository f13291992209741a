"""The plan of a study: strategies × folds over one manifest, with one profile."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cxr_platform.config import Profile, Protocol
from cxr_platform.domain.strategies import BLOCKS, Strategy, strategy_by_name
from cxr_platform.domain.study import NO_FOLD, ManifestFacts, TrialKey
from cxr_platform.training.devices import keras_backend


@dataclass(frozen=True)
class Share:
    """Processors and GPUs (a fraction of one, or several) that a trial reserves on its node."""

    cpus: float
    gpus: float


@dataclass(frozen=True)
class StudyPlan:
    """All trials of one configuration over one manifest."""

    name: str
    protocol: Protocol
    strategies: tuple[str, ...]
    profile: Profile
    manifest: ManifestFacts

    def trials(self) -> list[TrialKey]:
        """Return every trial in the order of `planned_trials`."""
        return planned_trials(self.profile, self.strategies)

    def identity(self) -> dict[str, Any]:
        """Return what must be the same for finished trials to count."""
        return study_identity(self.profile, self.protocol, self.manifest.content_hash)

    def trial_identity(self, key: TrialKey) -> dict[str, Any]:
        """Return all that the weights of a trial depend on; those of a champion do not depend on the folds."""
        left_out = ("protocol", "folds") if key.fold == NO_FOLD else ()
        settings = {name: value for name, value in self.identity().items() if name not in left_out}
        return {"strategy": key.strategy, **settings}


def planned_trials(profile: Profile, strategies: Sequence[str]) -> list[TrialKey]:
    """Return every trial in the order in which they run: the longest first, as short ones fill the gaps at the end."""
    longest_first = sorted(strategies, key=lambda name: -relative_cost(profile, name))
    return [TrialKey(name, fold) for name in longest_first for fold in range(profile.folds)]


def study_identity(profile: Profile, protocol: Protocol, content_hash: str) -> dict[str, Any]:
    """Return all that the results of trials depend on, as plain values.

    Neither the resources nor the path of the manifest are part of it; the content hash covers the intake settings.
    """
    settings = {key: value for key, value in profile.to_dict().items() if key not in ("name", "resources", "intake")}
    return {"protocol": protocol, "manifest": content_hash, "backend": keras_backend(), **settings}


def cuts_of(strategies: Sequence[str]) -> tuple[str, ...]:
    """Return the distinct cuts whose frozen activations `strategies` need."""
    cuts = (strategy_by_name(name).cut for name in strategies)
    return tuple(dict.fromkeys(cut for cut in cuts if cut))


def relative_cost(profile: Profile, name: str) -> float:
    """Return the relative work of one trial, epochs × share of trained blocks, for the order and the time left."""
    strategy = strategy_by_name(name)
    epochs = int(getattr(profile.training, strategy.family).epochs)
    return epochs * _share_trained(strategy)


def _share_trained(strategy: Strategy) -> float:
    if strategy.trainable_blocks is None:
        return 1.5  # the early blocks, at high resolution, cost most
    return (strategy.trainable_blocks + 0.5) / (BLOCKS + 1)

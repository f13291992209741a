"""What a study is: which strategies, over which folds, of which manifest, with which settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cxr_platform.config import Profile, Protocol
from cxr_platform.domain.strategies import BLOCKS, Strategy, strategy_by_name
from cxr_platform.domain.study import TrialKey
from cxr_platform.training.devices import keras_backend


@dataclass(frozen=True)
class Share:
    """What a trial reserves of its node: processors, and a fraction of one GPU."""

    cpus: float
    gpus: float


@dataclass(frozen=True)
class StudyPlan:
    """All trials of one configuration over one manifest. `manifest` holds the facts that `study.json` states of it."""

    name: str
    protocol: Protocol
    strategies: tuple[str, ...]
    profile: Profile
    manifest: Mapping[str, Any]

    def trials(self) -> list[TrialKey]:
        """Every trial, the longest strategies first: short ones fill the gaps at the end."""
        longest_first = sorted(self.strategies, key=lambda name: -relative_cost(self.profile, name))
        return [TrialKey(name, fold) for name in longest_first for fold in range(self.profile.folds)]

    def identity(self) -> dict[str, Any]:
        """What must be the same for finished trials to count: not the resources, nor where the manifest lies.

        The intake settings are the manifest's, whose content hash stands for them.
        """
        settings = {k: v for k, v in self.profile.to_dict().items() if k not in ("name", "resources", "intake")}
        return {
            "protocol": self.protocol,
            "manifest": self.manifest["content_hash"],
            "backend": keras_backend(),
            **settings,
        }


def cuts_of(strategies: Sequence[str]) -> tuple[str, ...]:
    """The distinct cuts whose activations these strategies train on."""
    cuts = (strategy_by_name(name).cut for name in strategies)
    return tuple(dict.fromkeys(cut for cut in cuts if cut))


def relative_cost(profile: Profile, name: str) -> float:
    """Work of one trial, for the order of trials and the time left: epochs × share of the blocks that are trained."""
    strategy = strategy_by_name(name)
    epochs = int(getattr(profile.training, strategy.family).epochs)
    return epochs * _share_trained(strategy)


def _share_trained(strategy: Strategy) -> float:
    if strategy.trainable_blocks is None:
        return 1.5  # the early blocks, at high resolution, cost most
    return (strategy.trainable_blocks + 0.5) / (BLOCKS + 1)

"""The plan of a study: strategies × folds over one manifest, with one profile."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cxr_platform.config import Profile, Protocol, View, differences
from cxr_platform.domain.strategies import ROBUST, strategy_by_name
from cxr_platform.domain.study import NO_FOLD, ManifestFacts, TrialKey
from cxr_platform.errors import ConfigError
from cxr_platform.training.devices import keras_backend


@dataclass(frozen=True)
class Share:
    """Processors and GPUs (a fraction of one, or several) that a trial reserves on its node."""

    cpus: float
    gpus: float


@dataclass(frozen=True)
class StudyPlan:
    """All trials of one configuration over one manifest.

    `left_out` is the origin that each fold of the protocol origins leaves out.
    """

    name: str
    protocol: Protocol
    strategies: tuple[str, ...]
    profile: Profile
    manifest: ManifestFacts
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if ROBUST in self.strategies and self.profile.robust.appearance != "none":
            raise ConfigError(
                f'Expected appearance = "none" under [robust] of profile {self.profile.name} for the strategy robust.',
                received=repr(self.profile.robust.appearance),
                advice="A trial does not compute the looks of its images: only cxr benchmark robust uses it.",
            )

    @property
    def views(self) -> tuple[View, ...]:
        """The views of an image that the trials need; none without `robust`."""
        return self.profile.robust.views if ROBUST in self.strategies else ()

    def trials(self) -> list[TrialKey]:
        """Return every trial in the order of `planned_trials`."""
        return planned_trials(self.profile, self.strategies)

    def identity(self) -> dict[str, Any]:
        """Return what must be the same for finished trials to count."""
        return study_identity(
            self.profile, self.protocol, self.manifest.content_hash, self.strategies, left_out=self.left_out
        )

    def trial_identity(self, key: TrialKey) -> dict[str, Any]:
        """Return all that the weights of a trial depend on; those of a champion do not depend on the folds."""
        absent = ("protocol", "folds") if key.fold == NO_FOLD else ()
        identity = replace(self, strategies=(key.strategy,)).identity()
        settings = {name: value for name, value in identity.items() if name not in absent}
        return {"strategy": key.strategy, **settings}


def planned_trials(profile: Profile, strategies: Sequence[str]) -> list[TrialKey]:
    """Return every trial in the order in which they run: the longest first, as short ones fill the gaps at the end."""
    longest_first = sorted(strategies, key=lambda name: -relative_cost(profile, name))
    return [TrialKey(name, fold) for name in longest_first for fold in range(profile.folds)]


def study_identity(
    profile: Profile,
    protocol: Protocol,
    content_hash: str,
    strategies: Collection[str] = (),
    left_out: Sequence[str] = (),
) -> dict[str, Any]:
    """Return all that the results of trials of `strategies` depend on, as plain values.

    Neither the resources nor the path of the manifest are part of it; the content hash covers the intake settings.
    `robust` is absent where no trial uses it: it is no difference for a study to which that strategy is added.
    `left_out` is there for the protocol origins alone: the names decide which fold leaves which origin out.
    `precision` is absent where `training.precision` is "auto": the engine adds what that means on the devices of the
    study (`StudyFolder.set_precision`).
    """
    absent = ("name", "resources", "intake", *(() if ROBUST in strategies else ("robust",)))
    settings = {key: value for key, value in profile.to_dict().items() if key not in absent}
    if "robust" in settings:
        settings["robust"]["views"] = list(settings["robust"]["views"])  # as JSON has them
    precision = settings["training"].pop("precision")
    known: dict[str, Any] = {} if precision == "auto" else {"precision": precision}
    if left_out:
        known["left_out"] = list(left_out)
    return {"protocol": protocol, "manifest": content_hash, "backend": keras_backend(), **known, **settings}


def identity_differences(known: Mapping[str, Any], identity: Mapping[str, Any]) -> list[str]:
    """Return the differences between two identities; what one of them does not have yet differs from nothing."""
    left_out = {"precision", "robust"} - ({*known} & {*identity})
    before, now = ({name: value for name, value in one.items() if name not in left_out} for one in (known, identity))
    return list(differences(before, now))


def cuts_of(strategies: Sequence[str]) -> tuple[str, ...]:
    """Return the distinct cuts whose frozen activations `strategies` need."""
    cuts = (strategy_by_name(name).cut for name in strategies)
    return tuple(dict.fromkeys(cut for cut in cuts if cut))


MEASURED_COST = {0: 0.02, 1: 0.11, 3: 0.16, 5: 0.23, 7: 0.26, 9: 0.29, 11: 0.34, None: 1.0}
"""Trained blocks → time of a training image on a processor, relative to training everything (measured at 96 px)."""

SOLVED_COST = 0.03
"""Relative cost of a trial of `robust`, most of which is building its network: 4 s on 2,850 images with the profile
quick, on a processor where off-the-shelf took 62 s."""


def relative_cost(profile: Profile, name: str, images: float | None = None) -> float:
    """Return the relative time of one trial of a study of `images`: epochs × `MEASURED_COST`.

    For the order of trials and the time left; without `images` a schedule's least number of steps is left out.
    """
    strategy = strategy_by_name(name)
    if strategy.is_solved:
        return SOLVED_COST
    schedule = profile.training.schedule(strategy.family)
    epochs = schedule.epochs
    if images is not None:
        epochs = schedule.epochs_for(images * (profile.folds - 1) / profile.folds, profile.training.batch_size)
    return schedule.full_size_epochs(epochs, profile.model.input_size) * MEASURED_COST[strategy.trainable_blocks]

"""How long one trial of each strategy takes: as a study measured it, as a file states it, or from a GPU's stated rate.

`origin` says which, and stands over every table that is made from it: a stated time must not pass for a measured one.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from cxr_platform.config import Profile
from cxr_platform.domain.strategies import BLOCKS, STRATEGY_NAMES, parse_strategies, strategy_by_name
from cxr_platform.domain.study import TrialKey, read_trials
from cxr_platform.errors import ConfigError, StudyError
from cxr_platform.training.plan import relative_cost
from cxr_platform.training.status import expected_seconds
from cxr_platform.validation import read_toml


@dataclass(frozen=True)
class Size:
    """What a trial's length depends on: images that it is trained on, and the profile's pixels and epochs."""

    images: float
    profile: Profile


@dataclass(frozen=True)
class TrialTimes:
    """Seconds of one trial by strategy, and where they come from; `size` where it is known, so that they scale."""

    seconds: Mapping[str, float]
    origin: str
    size: Size | None = None


def measured(root: Path, profile: Profile, strategies: Sequence[str]) -> TrialTimes:
    """The mean of the finished trials of the study in `root`, whose profile is `profile`.

    Strategies of which none is finished are guessed by their relative cost, and `origin` names them. Raises
    `StudyError` when no trial is finished.
    """
    keys = [TrialKey(name, fold) for name in STRATEGY_NAMES for fold in range(profile.folds)]
    finished = [trial for trial in read_trials(root, keys).values() if trial is not None]
    costs = {name: relative_cost(profile, name) for name in {*strategies, *(t.strategy for t in finished)}}
    seconds, guessed = expected_seconds([(trial.strategy, trial.seconds.total) for trial in finished], costs)
    if not seconds:
        raise StudyError(f"Expected finished trials in {root}.", received="none", advice="Give --times or --rate.")
    chosen = {name: seconds[name] for name in STRATEGY_NAMES if name in strategies}
    guess = [name for name in chosen if name in guessed]
    origin = f"measured in {len(finished)} trials of {root.name}{', but guessed by relative cost: ' * bool(guess)}"
    return TrialTimes(
        chosen, f"{origin}{', '.join(guess)}", Size(fmean(trial.images.train for trial in finished), profile)
    )


def stated(file: Path) -> TrialTimes:
    """TOML or JSON: `source`, a sentence that says where the numbers come from, and a table `seconds` by strategy."""
    tree = _tree(file)
    source, seconds = tree.get("source"), tree.get("seconds")
    if not isinstance(source, str) or not isinstance(seconds, dict) or not seconds:
        raise ConfigError(
            f'{file}: expected source = "…" and a table [seconds] with a number for each strategy.',
            received=", ".join(tree) or "nothing",
        )
    for name, value in seconds.items():
        strategy_by_name(name)
        if type(value) not in (int, float) or value <= 0:
            raise ConfigError(f"{file}: {name}: expected seconds.", received=repr(value))
    return TrialTimes({name: float(value) for name, value in seconds.items()}, f"stated in {file.name}: {source}")


def rated(profile: Profile, images: float, full: float, frozen: float, trials_per_gpu: int) -> TrialTimes:
    """All strategies from the images a second of one GPU, shared by the trials on it: in training everything (`full`)
    and in training the head alone on kept features (`frozen`), both at the size of `profile`; `images` of the study.

    seconds = trials_per_gpu × images × (folds − 1) / folds × epochs × c, with c = 1 / full for scratch, 1 / frozen for
    off-the-shelf, and 1 / frozen + (k + 0.5) / 17 / full for fine-tuning-k, as if all blocks cost the same.
    """
    if min(images, full, frozen) <= 0:
        raise ConfigError("Expected images and images a second above 0.", received=(images, full, frozen))
    size = Size(images * (profile.folds - 1) / profile.folds, profile)
    passes = {name: trials_per_gpu * size.images * _epochs(profile, name) for name in STRATEGY_NAMES}
    seconds = {name: n * _seconds_an_image(name, full, frozen) for name, n in passes.items()}
    rates = f"{full:g} images/s a GPU in training everything, {frozen:g} in training the head alone"
    told = f"{images:,.0f} images, {profile.model.input_size} px, {profile.folds} folds"
    return TrialTimes(seconds, f"ASSUMED, not measured: {rates}; {told}", size)


def scaled(times: TrialTimes, images: float | None, profile: Profile) -> TrialTimes:
    """The times for a study of `images` (as many as now when `None`) with the size, epochs and folds of `profile`.

    Work is images × pixels × epochs; that on kept pooled features (off-the-shelf) does not depend on the pixels.
    Raises `ConfigError` for times whose size is not known.
    """
    if times.size is None:
        raise ConfigError(
            "Expected times of a known size to scale to another one.",
            received=times.origin,
            advice="State the times of the size that is wanted, or give --study or --rate.",
        )
    now = times.size
    if images is None and profile == now.profile:
        return times
    share = (profile.folds - 1) / profile.folds
    before = now.images * now.profile.folds / (now.profile.folds - 1)
    target = Size((before if images is None else images) * share, profile)
    seconds = {name: s * _work(target, name) / _work(now, name) for name, s in times.seconds.items()}
    told = f"{target.images / share:,.0f} images, {profile.model.input_size} px, {profile.folds} folds"
    return replace(times, seconds=seconds, origin=f"{times.origin}; scaled to {told}", size=target)


def chosen(times: TrialTimes, strategies: str | None) -> TrialTimes:
    """Of `times` those of `strategies`, as `plan.parse_strategies` reads them; `ConfigError` for one without a time."""
    if strategies is None:
        return times
    names = parse_strategies(strategies)
    missing = [name for name in names if name not in times.seconds]
    if missing:
        raise ConfigError(f"Expected a time for {', '.join(missing)}.", received=", ".join(times.seconds))
    return replace(times, seconds={name: times.seconds[name] for name in names})


def _work(size: Size, name: str) -> float:
    pixels = 1 if strategy_by_name(name).cut == "features" else size.profile.model.input_size**2
    return size.images * pixels * _epochs(size.profile, name)


def _epochs(profile: Profile, name: str) -> int:
    return int(getattr(profile.training, strategy_by_name(name).family).epochs)


def _seconds_an_image(name: str, full: float, frozen: float) -> float:
    blocks = strategy_by_name(name).trainable_blocks
    if blocks is None:
        return 1 / full
    return 1 / frozen + ((blocks + 0.5) / (BLOCKS + 1) / full if blocks else 0.0)


def _tree(file: Path) -> Mapping[str, Any]:
    if file.suffix != ".json":
        return read_toml(file)
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"Expected readable JSON at {file}.", received=error) from error
    return tree if isinstance(tree, dict) else {}

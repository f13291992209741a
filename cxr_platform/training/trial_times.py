"""Time of one trial of each strategy: as a study measured it, as a file states it, or from the rate of a GPU.

`origin` says which, and is printed with every table made from the times: an assumed time must not pass for a measured
one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Annotated

from pydantic import Field

from cxr_platform.config import Profile
from cxr_platform.domain.strategies import (
    STRATEGY_NAMES,
    TITLES,
    VIEWS,
    ordered,
    parse_strategies,
    strategy_by_name,
)
from cxr_platform.domain.study import TrialKey
from cxr_platform.errors import ConfigError, StudyError
from cxr_platform.storage.trial_files import read_trials
from cxr_platform.training.plan import MEASURED_COST, relative_cost
from cxr_platform.training.status import expected_seconds
from cxr_platform.validation import Record, parse_json, read_toml, validate

STATED_ADVICE = 'Give source = "…" and a table [seconds] with the seconds of one trial of each strategy.'


@dataclass(frozen=True)
class TrialSize:
    """What the length of a trial depends on: images that it is trained on, and the profile's pixels and epochs."""

    images: float
    profile: Profile


@dataclass(frozen=True)
class TrialTimes:
    """Seconds of one trial by strategy, and their origin; `size` if it is known, so that they can be scaled."""

    seconds: Mapping[str, float]
    origin: str
    size: TrialSize | None = None


class StatedTimes(Record):
    """A file with trial times. `source` is a sentence about their origin, `seconds` those of one trial by strategy."""

    source: str
    seconds: dict[str, Annotated[float, Field(gt=0)]] = Field(min_length=1)


def measured_times(root: Path, profile: Profile, strategies: Sequence[str]) -> TrialTimes:
    """Return the means of the finished trials of the study in `root`, whose profile is `profile`.

    Strategies without a finished trial are guessed by their relative cost, and `origin` names them. Raises
    `StudyError` if no trial is finished.
    """
    keys = [TrialKey(name, fold) for name in TITLES for fold in range(profile.folds)]
    finished = [trial for trial in read_trials(root, keys).values() if trial is not None]
    if not finished:
        raise StudyError(f"Expected finished trials in {root}.", received="none", advice="Give --times or --rate.")
    trained = fmean(trial.images.train for trial in finished)
    images = trained * profile.folds / (profile.folds - 1)
    costs = {name: relative_cost(profile, name, images) for name in {*strategies, *(t.strategy for t in finished)}}
    seconds, guessed = expected_seconds([(trial.strategy, trial.seconds.total) for trial in finished], costs)
    names = ordered(strategies)
    guesses = ", ".join(name for name in names if name in guessed)
    origin = f"measured in {len(finished)} trials of {root.name}"
    if guesses:
        origin += f", but guessed by relative cost: {guesses}"
    size = TrialSize(trained, profile)
    return TrialTimes({name: seconds[name] for name in names}, origin, size)


def stated_times(file: Path) -> TrialTimes:
    """Read `StatedTimes` from a TOML or JSON file; raise `ConfigError` if it is not of that form."""
    if file.suffix == ".json":
        try:
            content = file.read_bytes()
        except OSError as error:
            raise ConfigError(f"Expected a readable JSON file at {file}.", received=error.strerror) from error
        tree = parse_json(content, str(file), ConfigError, STATED_ADVICE)
    else:
        tree = read_toml(file)
    stated = validate(StatedTimes, tree, str(file), ConfigError, STATED_ADVICE)
    ordered(stated.seconds)
    return TrialTimes(stated.seconds, f"stated in {file.name}: {stated.source}")


def assumed_times(
    profile: Profile, images: float, full_rate: float, head_rate: float, trials_per_gpu: int
) -> TrialTimes:
    """Return times from the images per second of one GPU, shared by the trials on it, for a study of `images`.

    `full_rate` is that of training the whole network, `head_rate` that of training the head on frozen features, both at
    the size of `profile`.

    seconds = trials_per_gpu × images × (folds − 1) / folds × epochs × c, with c = 1 / full_rate for scratch,
    1 / head_rate for off-the-shelf, and `MEASURED_COST`[k] / full_rate for fine-tuning-k.
    """
    if min(images, full_rate, head_rate) <= 0:
        raise ConfigError(
            "Expected numbers of images and images per second above 0.", received=(images, full_rate, head_rate)
        )
    size = TrialSize(images * (profile.folds - 1) / profile.folds, profile)
    seconds = {
        name: trials_per_gpu * size.images * _epochs(size, name) * _seconds_per_image(name, full_rate, head_rate)
        for name in STRATEGY_NAMES
    }
    rates = f"{full_rate:g} images/s per GPU in training everything, {head_rate:g} in training the head alone"
    return TrialTimes(seconds, f"ASSUMED, not measured: {rates}; {_description(images, profile)}", size)


def scaled_times(times: TrialTimes, images: float | None, profile: Profile) -> TrialTimes:
    """Return the times for a study of `images` (`None`: as many as now) with the size, epochs and folds of `profile`.

    Work is images × pixels × epochs; that on pooled features (off-the-shelf, robust) does not depend on the pixels.
    Raises `ConfigError` for times of an unknown size.
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
    if images is None:
        images = now.images * now.profile.folds / (now.profile.folds - 1)
    size = TrialSize(images * (profile.folds - 1) / profile.folds, profile)
    seconds = {name: s * _work(size, name) / _work(now, name) for name, s in times.seconds.items()}
    return replace(
        times, seconds=seconds, origin=f"{times.origin}; scaled to {_description(images, profile)}", size=size
    )


def select_times(times: TrialTimes, strategies: str | None) -> TrialTimes:
    """Return the times of `strategies` (see `parse_strategies`); raise `ConfigError` for one without a time."""
    if strategies is None:
        return times
    names = parse_strategies(strategies)
    missing = [name for name in names if name not in times.seconds]
    if missing:
        raise ConfigError(f"Expected a time for {', '.join(missing)}.", received=", ".join(times.seconds))
    return replace(times, seconds={name: times.seconds[name] for name in names})


def _description(images: float, profile: Profile) -> str:
    return f"{images:,.0f} images, {profile.model.input_size} px, {profile.folds} folds"


def _work(size: TrialSize, name: str) -> float:
    pixels = 1 if strategy_by_name(name).cut in ("features", VIEWS) else size.profile.model.input_size**2
    return size.images * pixels * _epochs(size, name)


def _epochs(size: TrialSize, name: str) -> float:
    """Return the epochs of a trial, in those with images of the full size; a head that is solved has one."""
    training, strategy = size.profile.training, strategy_by_name(name)
    if strategy.is_solved:
        return 1.0
    schedule = training.schedule(strategy.family)
    epochs = schedule.epochs_for(size.images, training.batch_size)
    return schedule.full_size_epochs(epochs, size.profile.model.input_size)


def _seconds_per_image(name: str, full_rate: float, head_rate: float) -> float:
    blocks = strategy_by_name(name).trainable_blocks
    if blocks is None:
        return 1 / full_rate
    return MEASURED_COST[blocks] / full_rate if blocks else 1 / head_rate

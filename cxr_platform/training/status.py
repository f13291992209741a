"""How far a study is, from its files alone: the machine that asks need not be one that trains.

A finished trial has `trials/STRATEGY/fold-K/trial.json`; a running one `fold-K.run/state.json`, which it writes again
every minute at the latest. One that has been silent for longer than `SILENCE` is stalled: its node was probably lost.
The clocks of the nodes and of this machine are taken to agree within a minute or two.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cxr_platform.config import Profile
from cxr_platform.domain.strategies import STRATEGY_NAMES
from cxr_platform.domain.study import TrialKey
from cxr_platform.errors import StudyError
from cxr_platform.records import (
    NOT_RECORDED,
    FinishedTrial,
    finished_trials,
    moment,
    read_description,
    read_trial_files,
)
from cxr_platform.training.plan import StudyPlan
from cxr_platform.validation import validate

SILENCE = timedelta(minutes=5)


@dataclass(frozen=True)
class RunningTrial:
    """A trial that is not finished, as it last said; `seconds` of training in its present attempt."""

    key: TrialKey
    node: str
    started: datetime
    updated: datetime
    epoch: int
    epochs: int
    seconds: float
    cpus: float
    gpus: float

    @property
    def share_left(self) -> float:
        """0 to 1."""
        return 1 - self.epoch / self.epochs


@dataclass(frozen=True)
class StudyStatus:
    """Every trial of a study is in exactly one of the five.

    `unreadable` ones have a file that is damaged, and count as not begun; `waiting` ones have none.
    """

    name: str
    at: datetime
    profile: Profile
    finished: Mapping[TrialKey, FinishedTrial]
    running: Sequence[RunningTrial]
    stalled: Sequence[RunningTrial]
    waiting: Sequence[TrialKey]
    unreadable: Sequence[TrialKey]

    @property
    def trials(self) -> int:
        """All of them."""
        return len(self.states())

    def states(self) -> dict[TrialKey, str]:
        """The state of every trial."""
        begun = {"running": self.running, "stalled": self.stalled}
        return {
            **dict.fromkeys(self.finished, "finished"),
            **{trial.key: state for state, trials in begun.items() for trial in trials},
            **dict.fromkeys(self.waiting, "waiting"),
            **dict.fromkeys(self.unreadable, "unreadable"),
        }

    def counts(self) -> dict[str, int]:
        """Trials by state, every state named."""
        counted = Counter(self.states().values())
        return {state: counted[state] for state in STATES}

    def by_strategy(self) -> dict[str, Counter[str]]:
        """Trials of each strategy by state."""
        return _grouped((key.strategy, state) for key, state in self.states().items())

    def by_node(self) -> dict[str, Counter[str]]:
        """Trials of each node by state; those that wait have none."""
        begun = {"running": self.running, "stalled": self.stalled}
        finished = ((trial.node or NOT_RECORDED, "finished") for trial in self.finished.values())
        others = ((trial.node, state) for state, trials in begun.items() for trial in trials)
        return _grouped((*finished, *others))


STATES = ("finished", "running", "stalled", "waiting", "unreadable")


def read_status(root: Path, now: datetime) -> StudyStatus:
    """The study in `root`, a `Path` or what stands for one on a store; `now` with its time zone.

    Raises `StudyError` where there is no study or its `study.json` lacks what is needed, `ConfigError` for a profile
    of another version.
    """
    plan = _plan(root, read_description(root))
    trials = plan.trials()
    # First the running ones: one that ends meanwhile is then seen twice, and counts as finished.
    begun = _begun(root, trials)
    stored = {TrialKey(*key): trial for key, trial in finished_trials(root, trials).items()}
    open_trials = [begun[key] for key in trials if key in begun and key not in stored]
    alive = [trial for trial in open_trials if trial is not None]
    damaged = {key for key, trial in {**begun, **stored}.items() if trial is None}
    return StudyStatus(
        name=plan.name,
        at=now,
        profile=plan.profile,
        finished={key: trial for key, trial in stored.items() if trial is not None},
        running=[trial for trial in alive if now - trial.updated <= SILENCE],
        stalled=[trial for trial in alive if now - trial.updated > SILENCE],
        waiting=[key for key in trials if key not in begun and key not in stored],
        unreadable=[key for key in trials if key in damaged],
    )


def _plan(root: Path, tree: Mapping[str, Any]) -> StudyPlan:
    where = f"{root / 'study.json'}"
    profile = validate(Profile, tree.get("profile", {}), f"{where}: profile")
    strategies = tree.get("strategies")
    if not isinstance(strategies, list) or not set(strategies) <= set(STRATEGY_NAMES):
        raise StudyError(f"{where}: expected strategies out of {', '.join(STRATEGY_NAMES)}.", received=repr(strategies))
    return StudyPlan(str(tree.get("name", root.name)), "grouped", tuple(strategies), profile, {})


def _begun(root: Path, trials: Sequence[TrialKey]) -> dict[TrialKey, RunningTrial | None]:
    """`None` for a damaged state."""
    places = {(key.strategy, f"fold-{key.fold}.run"): key for key in trials}
    found = read_trial_files(root, "trials/*/fold-*.run/state.json")
    return {places[place]: _running(places[place], tree) for place, tree in found.items() if place in places}


def _running(key: TrialKey, tree: Mapping[str, Any] | None) -> RunningTrial | None:
    try:
        return None if tree is None else _told(key, tree)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _told(key: TrialKey, tree: Mapping[str, Any]) -> RunningTrial:
    epoch, epochs = int(tree["epoch"]), int(tree["epochs"])
    if not 0 <= epoch <= epochs or epochs < 1:
        raise ValueError(f"epoch {epoch} of {epochs}")
    return RunningTrial(
        key=key,
        node=str(tree["node"]),
        started=moment(tree["started"]),
        updated=moment(tree["updated"]),
        epoch=epoch,
        epochs=epochs,
        seconds=float(tree["seconds"]),
        cpus=float(tree["cpus"]),
        gpus=float(tree["gpus"]),
    )


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, Counter[str]]:
    grouped: dict[str, Counter[str]] = {}
    for name, state in pairs:
        grouped.setdefault(name, Counter())[state] += 1
    return dict(sorted(grouped.items()))

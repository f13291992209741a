"""State, time left and cost of a study, from its files alone: the machine that asks need not be one that trains.

A finished trial has `trials/STRATEGY/fold-K/trial.json`; a running one has `fold-K.run/state.json`, which it writes at
least once a minute. A trial whose state is older than `SILENCE` is stalled: its node was probably lost. The storage
dates the states and tells the present time, so that no other clock matters. Where it does not tell, as of a file system
that may only be read, this machine's clock does; if that is ahead by minutes, trials look stalled that are not.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from statistics import fmean

from cxr_platform.config import Profile
from cxr_platform.domain.study import TrialKey, TrialRecord, TrialState, read_study
from cxr_platform.storage.trial_files import read_trials_and_states, storage_time
from cxr_platform.training.plan import planned_trials, relative_cost

SILENCE = timedelta(minutes=5)
STATES = ("finished", "running", "stalled", "waiting", "unreadable")


@dataclass(frozen=True)
class StudyStatus:
    """The trials of a study at the time `at`; every trial is in exactly one of the five groups.

    `images` are those in its folds. `unreadable` trials have a damaged file and count as not begun; `waiting` ones have
    no file. `by_own_clock` is True where `at` is of this machine's clock.
    """

    name: str
    at: datetime
    by_own_clock: bool
    profile: Profile
    images: int
    finished: Mapping[TrialKey, TrialRecord]
    running: Sequence[TrialState]
    stalled: Sequence[TrialState]
    waiting: Sequence[TrialKey]
    unreadable: Sequence[TrialKey]

    @property
    def begun(self) -> Sequence[TrialState]:
        """Trials that are running or stalled."""
        return (*self.running, *self.stalled)

    @property
    def trials(self) -> int:
        """Number of trials."""
        return len(self.states())

    def states(self) -> dict[TrialKey, str]:
        """Return the state of every trial."""
        return {
            **dict.fromkeys(self.finished, "finished"),
            **dict.fromkeys((trial.key for trial in self.running), "running"),
            **dict.fromkeys((trial.key for trial in self.stalled), "stalled"),
            **dict.fromkeys(self.waiting, "waiting"),
            **dict.fromkeys(self.unreadable, "unreadable"),
        }

    def counts(self) -> dict[str, int]:
        """Return the number of trials in each of `STATES`."""
        counted = Counter(self.states().values())
        return {state: counted[state] for state in STATES}

    def by_strategy(self) -> dict[str, Counter[str]]:
        """Return the trials of each strategy by state."""
        return _grouped((key.strategy, state) for key, state in self.states().items())

    def by_node(self) -> dict[str, Counter[str]]:
        """Return the trials of each node by state; a trial that waits has no node."""
        states = self.states()
        trials: list[TrialRecord | TrialState] = [*self.finished.values(), *self.begun]
        return _grouped((trial.node, states[trial.key]) for trial in trials)


@dataclass(frozen=True)
class TimeLeft:
    """`work_seconds` of one trial after the other, `seconds` with `at_once` of them running as now; `None`: unknown.

    A trial of a strategy is taken to need the mean of the finished ones of that strategy; one of `guessed`, of which
    none is finished, what its `relative_cost` makes of the pace of all finished ones. Until the first trial is
    finished, those with a finished epoch stand for it, at their pace so far, and all strategies are `guessed`.
    """

    seconds: float | None
    work_seconds: float | None
    at_once: int
    guessed: tuple[str, ...]


@dataclass(frozen=True)
class Cost:
    """Hours that trials hold a resource: so far, and when the study is finished (`None` if unknown).

    No file states what attempts held that were lost with their node; they are not counted.
    """

    so_far: float
    expected: float | None


def read_status(root: Path, now: datetime | None = None) -> StudyStatus:
    """Return the status of the study in `root` at `now`, which has a time zone, or at the last update if that is later.

    By default `now` is the time of the storage, or of this machine's clock where it does not tell. Raises `StudyError`
    if there is no study or its `study.json` is damaged.
    """
    study = read_study(root)
    there = None if now else storage_time(root)
    by_own_clock = not (now or there)
    now = now or there or datetime.now(timezone.utc)
    trials = planned_trials(study.profile, study.strategies)
    stored, begun = read_trials_and_states(root, trials)
    alive = [begun[key] for key in trials if key in begun and key not in stored]
    now = max([now, *(trial.updated for trial in alive if trial)])
    damaged = {key for key, trial in {**begun, **stored}.items() if trial is None}
    return StudyStatus(
        name=study.name,
        at=now,
        by_own_clock=by_own_clock,
        profile=study.profile,
        images=study.manifest.study_images,
        finished={key: trial for key, trial in stored.items() if trial is not None},
        running=[trial for trial in alive if trial and now - trial.updated <= SILENCE],
        stalled=[trial for trial in alive if trial and now - trial.updated > SILENCE],
        waiting=[key for key in trials if key not in begun and key not in stored],
        unreadable=[key for key in trials if key in damaged],
    )


def time_left(status: StudyStatus) -> TimeLeft:
    """Estimate the time left, with as many trials at once as are running now."""
    left, guessed = _seconds_left(status)
    at_once = len(status.running)
    if left is None:
        return TimeLeft(None, None, at_once, guessed)
    work = sum(left.values())
    seconds = max(work / at_once, *left.values()) if at_once and left else None
    return TimeLeft(seconds if left else 0.0, work, at_once, guessed)


def cpu_hours(status: StudyStatus) -> Cost:
    """Return the processors held, in hours."""
    return _cost(status, lambda trial: trial.cpus)


def gpu_hours(status: StudyStatus) -> Cost:
    """Return the GPUs held, in hours; a fraction of a GPU counts as that fraction."""
    return _cost(status, lambda trial: trial.gpus)


def expected_seconds(
    measured: Iterable[tuple[str, float]], costs: Mapping[str, float]
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Return the seconds of one trial of each strategy in `costs` (strategy → `relative_cost`), and the guessed ones.

    `measured` are pairs of strategy and seconds of a trial; without any, the seconds are empty.
    """
    by_strategy: dict[str, list[float]] = {}
    for strategy, seconds in measured:
        by_strategy.setdefault(strategy, []).append(seconds)
    if not by_strategy:
        return {}, tuple(costs)
    means = {name: fmean(seconds) for name, seconds in by_strategy.items()}
    spent = sum(map(sum, by_strategy.values()))
    pace = spent / sum(costs[name] * len(seconds) for name, seconds in by_strategy.items())
    guessed = tuple(name for name in costs if name not in means)
    return {name: means.get(name, pace * cost) for name, cost in costs.items()}, guessed


def _seconds_left(status: StudyStatus) -> tuple[dict[TrialKey, float] | None, tuple[str, ...]]:
    """Return the seconds of every trial that is not finished, and the strategies among them that are guessed."""
    shares = {trial.key: trial.remaining for trial in status.begun}
    shares |= dict.fromkeys((*status.waiting, *status.unreadable), 1.0)
    names = {key.strategy for key in (*shares, *status.finished)}
    costs = {name: relative_cost(status.profile, name, status.images) for name in sorted(names)}
    finished = [(trial.strategy, trial.seconds.total) for trial in status.finished.values()]
    begun = [(trial.strategy, trial.seconds * trial.epochs / trial.epoch) for trial in status.begun if trial.epoch]
    seconds, guessed = expected_seconds(finished or begun, costs)
    guessed = guessed if finished else tuple(costs)
    needed = tuple(name for name in guessed if any(key.strategy == name for key in shares))
    if shares and not seconds:
        return None, needed
    return {key: share * seconds[key.strategy] for key, share in shares.items()}, needed


def _cost(status: StudyStatus, held: Callable[[TrialRecord | TrialState], float]) -> Cost:
    finished = [(held(trial), trial.seconds.total) for trial in status.finished.values()]
    trials = finished + [(held(trial), trial.seconds) for trial in status.begun]
    so_far = sum(share * seconds for share, seconds in trials) / 3600
    work = time_left(status).work_seconds
    if work == 0:
        return Cost(so_far, so_far)
    if work is None or not trials:
        return Cost(so_far, None)
    return Cost(so_far, so_far + fmean(share for share, _ in trials) * work / 3600)


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, Counter[str]]:
    groups: dict[str, Counter[str]] = {}
    for name, state in pairs:
        groups.setdefault(name, Counter())[state] += 1
    return dict(sorted(groups.items()))

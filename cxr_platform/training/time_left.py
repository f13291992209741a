"""What a study will still take: time at the present pace, and processors and GPUs held, from what its trials took."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from cxr_platform.domain.study import TrialKey
from cxr_platform.records import FinishedTrial
from cxr_platform.training.plan import relative_cost
from cxr_platform.training.status import RunningTrial, StudyStatus


@dataclass(frozen=True)
class TimeLeft:
    """`work_seconds` of one trial after the other, `seconds` with `at_once` of them running as now; `None`: not known.

    A trial of a strategy is taken to need the mean of the finished ones of that strategy; one of `guessed`, of which
    none is finished, what its `relative_cost` makes of the pace of all finished ones. Until the first is
    finished, those with an epoch behind them stand for it, at their pace so far, and all strategies are `guessed`.
    """

    seconds: float | None
    work_seconds: float | None
    at_once: int
    guessed: tuple[str, ...]


@dataclass(frozen=True)
class Cost:
    """Hours that trials hold: so far, and when the study is finished; `None` where it is not recorded or not known.

    What attempts held that were lost with their node is not told by any file, and not counted.
    """

    so_far: float | None
    expected: float | None


def time_left(status: StudyStatus) -> TimeLeft:
    """At the pace of the finished trials, or before there is one of those begun; as many at once as are running now."""
    left, guessed = _seconds_left(status)
    at_once = len(status.running)
    if left is None:
        return TimeLeft(None, None, at_once, guessed)
    work = sum(left.values())
    seconds = max(work / at_once, *left.values()) if at_once and left else None
    return TimeLeft(seconds if left else 0.0, work, at_once, guessed)


def cpu_hours(status: StudyStatus) -> Cost:
    """Processors held, in hours."""
    return _cost(status, lambda trial: trial.cpus)


def gpu_hours(status: StudyStatus) -> Cost:
    """GPUs held, in hours; a fraction of a GPU counts as that fraction."""
    return _cost(status, lambda trial: trial.gpus)


def expected_seconds(
    finished: Iterable[FinishedTrial], costs: Mapping[str, float]
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Seconds of one trial of each strategy in `costs` (strategy → `relative_cost`), and those that are guessed.

    Empty when nothing is finished.
    """
    by_strategy: dict[str, list[float]] = {}
    for trial in finished:
        by_strategy.setdefault(trial.strategy, []).append(trial.seconds)
    if not by_strategy:
        return {}, tuple(costs)
    measured = {name: fmean(seconds) for name, seconds in by_strategy.items()}
    spent = sum(map(sum, by_strategy.values()))
    pace = spent / sum(costs[name] * len(seconds) for name, seconds in by_strategy.items())
    guessed = tuple(name for name in costs if name not in measured)
    return {name: measured.get(name, pace * cost) for name, cost in costs.items()}, guessed


def _seconds_left(status: StudyStatus) -> tuple[dict[TrialKey, float] | None, tuple[str, ...]]:
    """Seconds of every trial that is not finished, and the strategies among them that are guessed."""
    shares = {trial.key: trial.share_left for trial in _begun(status)}
    shares |= dict.fromkeys((*status.waiting, *status.unreadable), 1.0)
    names = {key.strategy for key in (*shares, *status.finished)}
    costs = {name: relative_cost(status.profile, name) for name in sorted(names)}
    samples = [*status.finished.values()] or [_as_if_finished(trial) for trial in _begun(status) if trial.epoch]
    seconds, guessed = expected_seconds(samples, costs)
    guessed = guessed if status.finished else tuple(costs)
    needed = tuple(name for name in guessed if any(key.strategy == name for key in shares))
    if shares and not seconds:
        return None, needed
    return {key: share * seconds[key.strategy] for key, share in shares.items()}, needed


def _as_if_finished(trial: RunningTrial) -> FinishedTrial:
    return FinishedTrial(*trial.key, trial.seconds * trial.epochs / trial.epoch)


def _cost(status: StudyStatus, held: Callable[[FinishedTrial | RunningTrial], float | None]) -> Cost:
    trials: list[FinishedTrial | RunningTrial] = [*status.finished.values(), *_begun(status)]
    shares = [share for share in map(held, trials) if share is not None]
    work = time_left(status).work_seconds
    if len(shares) < len(trials):
        return Cost(None, None)
    so_far = sum(share * trial.seconds for share, trial in zip(shares, trials, strict=True)) / 3600
    if work == 0:
        return Cost(so_far, so_far)
    return Cost(so_far, so_far + fmean(shares) * work / 3600 if shares and work is not None else None)


def _begun(status: StudyStatus) -> Sequence[RunningTrial]:
    return (*status.running, *status.stalled)

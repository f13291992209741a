"""What a study's trials took of machines, and how many of them ran at once."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cxr_platform.evaluation.study import Study
from cxr_platform.records import NOT_RECORDED, FinishedTrial, finished_trials


@dataclass(frozen=True)
class ResourceUse:
    """Seconds. `None` where a trial was stored before it was recorded, or cannot be read: a part is no sum.

    `busy_seconds` of all trials; `cpu_seconds` and `gpu_seconds` are the same times what each held (a fraction of a
    GPU counts as that fraction); `wall_seconds` in which at least one trial ran, pauses left out. Their ratios
    `trials_at_once` and `gpus_at_once` are averages over the wall seconds. `machines` counts trials by the machine
    that they ran on, which need not be the one whose hardware `study.json` states.
    """

    trials: int
    busy_seconds: float | None = None
    cpu_seconds: float | None = None
    gpu_seconds: float | None = None
    wall_seconds: float | None = None
    machines: Mapping[str, int] = field(default_factory=dict)

    @property
    def trials_at_once(self) -> float | None:
        """Busy seconds a wall second."""
        return _ratio(self.busy_seconds, self.wall_seconds)

    @property
    def gpus_at_once(self) -> float | None:
        """GPU seconds a wall second."""
        return _ratio(self.gpu_seconds, self.wall_seconds)


def read_resource_use(folder: Path, study: Study) -> ResourceUse:
    """What the finished trials in `folder` say."""
    wanted = {(strategy, fold) for strategy in study.strategies for fold in range(study.folds)}
    return resource_use(list(finished_trials(folder, wanted).values()))


def resource_use(trials: Sequence[FinishedTrial | None]) -> ResourceUse:
    """The sums; `None` among the trials stands for one that cannot be read."""
    return ResourceUse(
        trials=len(trials),
        busy_seconds=_sum(trials, lambda t: t.seconds),
        cpu_seconds=_sum(trials, lambda t: None if t.cpus is None else t.cpus * t.seconds),
        gpu_seconds=_sum(trials, lambda t: None if t.gpus is None else t.gpus * t.seconds),
        wall_seconds=_wall_seconds(trials),
        machines=dict(Counter(t.machine if t and t.machine else NOT_RECORDED for t in trials)),
    )


def union_seconds(intervals: Iterable[tuple[datetime, datetime]]) -> float:
    """Seconds that lie in at least one of the intervals."""
    total, covered = 0.0, None
    for began, ended in sorted(intervals):
        start = began if covered is None else max(began, covered)
        total += max(0.0, (ended - start).total_seconds())
        covered = ended if covered is None else max(covered, ended)
    return total


def resource_use_line(compute: ResourceUse) -> str:
    """For a person, in hours."""
    if compute.busy_seconds is None or compute.wall_seconds is None:
        return NOT_RECORDED
    hours = f"{_hours(compute.busy_seconds)} of trials in {_hours(compute.wall_seconds)}"
    at_once = "" if compute.trials_at_once is None else f", {compute.trials_at_once:.1f} at once on average"
    held = [
        f"{seconds / 3600:.2f} {what}-hours"
        for what, seconds in (("CPU", compute.cpu_seconds), ("GPU", compute.gpu_seconds))
        if seconds is not None
    ]
    return f"{compute.trials} trials: {hours}{at_once}{''.join(f'; {part}' for part in held)}"


def machines_line(compute: ResourceUse) -> str:
    """For a person: the machines, with the number of trials where there are several."""
    if len(compute.machines) <= 1:
        return next(iter(compute.machines), NOT_RECORDED)
    return "; ".join(f"{count} trials on {machine}" for machine, count in compute.machines.items())


def _sum(trials: Sequence[FinishedTrial | None], of: Callable[[FinishedTrial], float | None]) -> float | None:
    parts = [None if trial is None else of(trial) for trial in trials]
    known = [part for part in parts if part is not None]
    return sum(known) if parts and len(known) == len(parts) else None


def _wall_seconds(trials: Sequence[FinishedTrial | None]) -> float | None:
    spans = [(t.started, t.finished) for t in trials if t is not None]
    known = [(began, ended) for began, ended in spans if began is not None and ended is not None]
    return union_seconds(known) if trials and len(known) == len(trials) else None


def _ratio(part: float | None, wall: float | None) -> float | None:
    return part / wall if part is not None and wall else None


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f} h"

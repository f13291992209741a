"""What a study's trials took of machines, and how many of them ran at once."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cxr_platform.domain.study import StudyRecord, TrialRecord, read_trials

UNKNOWN = "unknown"


@dataclass(frozen=True)
class ResourceUse:
    """Seconds of the finished trials; `None` where the record of one cannot be read, as a part is no sum.

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
        """Busy seconds per wall second."""
        return _ratio(self.busy_seconds, self.wall_seconds)

    @property
    def gpus_at_once(self) -> float | None:
        """GPU seconds per wall second."""
        return _ratio(self.gpu_seconds, self.wall_seconds)


def read_resource_use(folder: Path, study: StudyRecord) -> ResourceUse:
    """Sum up the finished trials of `study` in `folder`."""
    return resource_use(list(read_trials(folder, study.trials()).values()))


def resource_use(trials: Sequence[TrialRecord | None]) -> ResourceUse:
    """Sum up `trials`, with `None` for one whose record cannot be read."""
    machines = dict(Counter(str(trial.hardware) if trial else UNKNOWN for trial in trials))
    records = [trial for trial in trials if trial is not None]
    if not records or len(records) < len(trials):
        return ResourceUse(len(trials), machines=machines)
    return ResourceUse(
        trials=len(records),
        busy_seconds=sum(trial.seconds.total for trial in records),
        cpu_seconds=sum(trial.cpus * trial.seconds.total for trial in records),
        gpu_seconds=sum(trial.gpus * trial.seconds.total for trial in records),
        wall_seconds=union_seconds((trial.started, trial.finished) for trial in records),
        machines=machines,
    )


def union_seconds(intervals: Iterable[tuple[datetime, datetime]]) -> float:
    """Return the seconds that lie in at least one of the intervals."""
    total, covered = 0.0, None
    for began, ended in sorted(intervals):
        start = began if covered is None else max(began, covered)
        total += max(0.0, (ended - start).total_seconds())
        covered = ended if covered is None else max(covered, ended)
    return total


def resource_use_line(compute: ResourceUse) -> str:
    """Return one sentence, in hours."""
    if compute.busy_seconds is None or compute.wall_seconds is None:
        return UNKNOWN
    hours = f"{_hours(compute.busy_seconds)} of trials in {_hours(compute.wall_seconds)}"
    at_once = "" if compute.trials_at_once is None else f", {compute.trials_at_once:.1f} at once on average"
    held = [
        f"{seconds / 3600:.2f} {what}-hours"
        for what, seconds in (("CPU", compute.cpu_seconds), ("GPU", compute.gpu_seconds))
        if seconds is not None
    ]
    return f"{compute.trials} trials: {hours}{at_once}{''.join(f'; {part}' for part in held)}"


def machines_line(compute: ResourceUse) -> str:
    """Return the machines, with the number of trials where there are several."""
    if len(compute.machines) <= 1:
        return next(iter(compute.machines), UNKNOWN)
    return "; ".join(f"{count} trials on {machine}" for machine, count in compute.machines.items())


def _ratio(part: float | None, wall: float | None) -> float | None:
    return part / wall if part is not None and wall else None


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f} h"

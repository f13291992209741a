"""CPU, GPU and wall time of a study's trials, how many ran at once, and in which numbers they computed."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cxr_platform.domain.study import CacheUse, StudyRecord, TrialRecord, total_cache_use
from cxr_platform.storage.trial_files import read_trials

UNKNOWN = "unknown"


@dataclass(frozen=True)
class ResourceUse:
    """Sums over the finished trials in seconds; `None` if the record of one cannot be read.

    `busy_seconds` is the time of all trials, `cpu_seconds` and `gpu_seconds` that time × CPUs and GPUs reserved (a
    fraction of a GPU counts as that fraction). `wall_seconds` is the time in which at least one trial ran. `machines`
    counts trials per machine, which may differ from the machine in `study.json`, and `numerics` trials per backend,
    precision and determinism. `cache` is the use of the nodes' caches, `None` where no trial states it.
    """

    trials: int
    busy_seconds: float | None = None
    cpu_seconds: float | None = None
    gpu_seconds: float | None = None
    wall_seconds: float | None = None
    machines: Mapping[str, int] = field(default_factory=dict)
    numerics: Mapping[str, int] = field(default_factory=dict)
    cache: CacheUse | None = None

    @property
    def trials_at_once(self) -> float | None:
        """Mean number of running trials over the wall time."""
        return self.busy_seconds / self.wall_seconds if self.busy_seconds is not None and self.wall_seconds else None

    @property
    def gpus_at_once(self) -> float | None:
        """Mean number of reserved GPUs over the wall time."""
        return self.gpu_seconds / self.wall_seconds if self.gpu_seconds is not None and self.wall_seconds else None


def read_resource_use(folder: Path, study: StudyRecord) -> ResourceUse:
    """Return the sums over the finished trials of `study` in `folder`."""
    return resource_use(list(read_trials(folder, study.trials()).values()))


def resource_use(trials: Sequence[TrialRecord | None]) -> ResourceUse:
    """Return the sums over `trials`, in which `None` is a trial whose record cannot be read."""
    machines = dict(Counter(str(trial.hardware) if trial else UNKNOWN for trial in trials))
    records = [trial for trial in trials if trial is not None]
    numerics, cache = dict(Counter(map(_numerics, records))), total_cache_use(records)
    if not records or len(records) < len(trials):
        return ResourceUse(len(trials), machines=machines, numerics=numerics, cache=cache)
    return ResourceUse(
        trials=len(records),
        busy_seconds=sum(trial.seconds.total for trial in records),
        cpu_seconds=sum(trial.cpus * trial.seconds.total for trial in records),
        gpu_seconds=sum(trial.gpus * trial.seconds.total for trial in records),
        wall_seconds=union_seconds((trial.started, trial.finished) for trial in records),
        machines=machines,
        numerics=numerics,
        cache=cache,
    )


def _numerics(trial: TrialRecord) -> str:
    determinism = "results repeat on the same hardware" if trial.deterministic else "not deterministic"
    return f"{trial.backend}, {trial.precision}, {determinism}{', GPU shared by MPS' if trial.mps else ''}"


def union_seconds(intervals: Iterable[tuple[datetime, datetime]]) -> float:
    """Return the seconds that are in at least one of the intervals."""
    total, covered = 0.0, None
    for began, ended in sorted(intervals):
        start = began if covered is None else max(began, covered)
        total += max(0.0, (ended - start).total_seconds())
        covered = ended if covered is None else max(covered, ended)
    return total


def resource_use_line(use: ResourceUse) -> str:
    """Return the sums in hours, as text."""
    if use.busy_seconds is None or use.wall_seconds is None:
        return UNKNOWN
    hours = f"{use.busy_seconds / 3600:.2f} h of trials in {use.wall_seconds / 3600:.2f} h"
    at_once = "" if use.trials_at_once is None else f", {use.trials_at_once:.1f} at once on average"
    reserved = [
        f"; {seconds / 3600:.2f} {unit}-hours"
        for unit, seconds in (("CPU", use.cpu_seconds), ("GPU", use.gpu_seconds))
        if seconds is not None
    ]
    return f"{use.trials} trials: {hours}{at_once}{''.join(reserved)}"


def machines_line(use: ResourceUse) -> str:
    """Return the machines, with the number of trials on each if there are several."""
    if len(use.machines) <= 1:
        return next(iter(use.machines), UNKNOWN)
    return "; ".join(f"{trials} trials on {machine}" for machine, trials in use.machines.items())


def numerics_line(use: ResourceUse) -> str:
    """Return backend, precision and determinism of the trials, with their numbers if they differ."""
    if len(use.numerics) <= 1:
        return next(iter(use.numerics), UNKNOWN)
    return "; ".join(f"{trials} trials with {numerics}" for numerics, trials in use.numerics.items())


def cache_line(use: ResourceUse) -> str:
    """Return what the trials used of the nodes' caches."""
    if use.cache is None:
        return UNKNOWN
    return str(use.cache) if use.cache.hits + use.cache.misses else "not used"

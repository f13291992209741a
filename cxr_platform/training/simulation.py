"""Simulated studies: when trials of known length end on GPUs that may be lost, in the study's order and in others.

The engine gives the next trial of the plan to the first free place, and so does this. A lost GPU takes all its trials
with it; each returns to its place in the plan, which is the front (`tune_hooks.PlannedOrder`), and continues from its
last checkpoint. Every node is taken to have one GPU.
"""

import heapq
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from cxr_platform.config import Profile
from cxr_platform.domain.strategies import TITLES
from cxr_platform.domain.study import TrialKey
from cxr_platform.errors import ConfigError
from cxr_platform.training.plan import planned_trials

MAX_ATTEMPTS = 1000
"""Attempts of one trial. A trial that is lost more often has GPUs that live shorter than its checkpoint interval."""

Order = Callable[[list[TrialKey], Mapping[str, float]], list[TrialKey]]

OWN, LONGEST, LISTED = "the study's", "longest first", "as listed"
ORDERS: Mapping[str, Order] = {
    OWN: lambda trials, _: trials,
    LONGEST: lambda trials, seconds: sorted(trials, key=lambda key: -seconds[key.strategy]),
    LISTED: lambda trials, _: sorted(trials, key=lambda key: list(TITLES).index(key.strategy)),
}
"""None of them knows beforehand which trials are stragglers. "As listed" is the paper's order, with scratch last."""


@dataclass(frozen=True)
class Conditions:
    """GPUs, losses per hour that one GPU is up, stragglers, and times in seconds.

    `straggler_share` of the trials take `straggler_factor` times as long. A trial that was lost first takes
    `restart_seconds` in which it does no work. A GPU returns `back_seconds` after its loss.
    """

    gpus: int
    trials_per_gpu: int = 1
    straggler_share: float = 0.0
    straggler_factor: float = 1.0
    losses_per_hour: float = 0.0
    checkpoint_seconds: float = 60.0
    restart_seconds: float = 0.0
    back_seconds: float = 300.0
    seed: int = 0

    def __post_init__(self) -> None:
        rules = {
            "at least one GPU and one trial per GPU": self.gpus >= 1 and self.trials_per_gpu >= 1,
            "a share of stragglers of 0 to 1": 0 <= self.straggler_share <= 1,
            "a factor of stragglers of 1 or more": self.straggler_factor >= 1,
            "no rate or time below 0": min(self.losses_per_hour, self.restart_seconds, self.back_seconds) >= 0,
            "checkpoints more than 0 s apart": self.checkpoint_seconds > 0,
        }
        broken = [rule for rule, kept in rules.items() if not kept]
        if broken:
            raise ConfigError(f"Expected {'; '.join(broken)}.", received=self)

    @property
    def places(self) -> int:
        """Trials that run at once."""
        return self.gpus * self.trials_per_gpu


@dataclass(frozen=True)
class Simulated:
    """One simulated study, in seconds; no order of the trials ends before `bound`.

    `busy` is the sum over places, `repeated` the work done twice because a GPU was lost, `restarting` the time that its
    trials took to restart, `losses` the number of lost GPUs. `ended` has one time per trial, in the order given.
    """

    makespan: float
    bound: float
    busy: float
    repeated: float
    restarting: float
    losses: int
    ended: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Makespan over bound; 1 is optimal."""
        return self.makespan / self.bound


@dataclass(frozen=True)
class Forecast:
    """Means over several seeds, in hours.

    `gpu_hours` are those of all GPUs until the end, busy or not; `busy_share` is the part of that time in which trials
    ran, repeated work included.
    """

    trials: int
    gpus: int
    order: str
    makespan_hours: float
    bound_hours: float
    gpu_hours: float
    busy_share: float
    losses: float
    repeated_hours: float

    @property
    def ratio(self) -> float:
        """Makespan over the lower bound."""
        return self.makespan_hours / self.bound_hours


def study_trials(profile: Profile, strategies: Sequence[str], count: int) -> list[TrialKey]:
    """Return `count` trials in the order of a study of `profile`, spread evenly over the strategies."""
    folds = -(-count // len(strategies))
    trials = planned_trials(replace(profile, folds=folds), strategies)
    chosen = set(sorted(trials, key=lambda key: key.fold)[:count])
    return [key for key in trials if key in chosen]


def forecast(
    trials: list[TrialKey], seconds: Mapping[str, float], conditions: Conditions, repeats: int
) -> list[Forecast]:
    """Return one forecast for each of `ORDERS` that differs from the study's, over `repeats` seeds.

    The seeds start with that of `conditions`. All orders have the same stragglers and, GPU by GPU, the same losses.
    """
    is_deterministic = conditions.losses_per_hour == 0 and conditions.straggler_share == 0
    seeds = [conditions.seed + n for n in range(1 if is_deterministic else repeats)]
    draws = [replace(conditions, seed=seed) for seed in seeds]
    names = [name for name in ORDERS if name == OWN or ORDERS[name](trials, seconds) != trials]
    return [_forecast(name, trials, seconds, draws) for name in names]


def largest_saving(rows: Sequence[Forecast]) -> float | None:
    """Return the largest share of a makespan that longest first saves against the study's order.

    It is negative if longest first is never better, and `None` if the two orders are the same.
    """
    own = {(row.trials, row.gpus): row.makespan_hours for row in rows if row.order == OWN}
    others = [row for row in rows if row.order == LONGEST]
    return max((1 - row.makespan_hours / own[row.trials, row.gpus] for row in others), default=None)


def simulate(seconds: Sequence[float], conditions: Conditions) -> Simulated:
    """Run trials of `seconds` each (stragglers included) in this order.

    Raises `ConfigError` without trials, for a trial of no length, and if a trial would never end.
    """
    if not seconds or min(seconds) <= 0:
        raise ConfigError("Expected trials that take more than 0 s.", received=list(seconds)[:8])
    scheduler = _Scheduler(list(seconds), conditions)
    scheduler.run()
    return Simulated(
        makespan=max(scheduler.ended.values()),
        bound=max(sum(seconds) / conditions.places, *seconds),
        busy=scheduler.busy,
        repeated=scheduler.repeated,
        restarting=scheduler.restarting,
        losses=scheduler.losses,
        ended=tuple(scheduler.ended[trial] for trial in range(len(seconds))),
    )


def with_stragglers(seconds: Sequence[float], conditions: Conditions) -> list[float]:
    """Return the lengths of the trials with stragglers: for one seed the same trials, whatever the GPUs are."""
    count = round(conditions.straggler_share * len(seconds))
    slow = set(random.Random(f"stragglers {conditions.seed}").sample(range(len(seconds)), count))
    return [s * conditions.straggler_factor if i in slow else s for i, s in enumerate(seconds)]


def _forecast(
    order: str, trials: list[TrialKey], seconds: Mapping[str, float], draws: Sequence[Conditions]
) -> Forecast:
    runs = []
    for conditions in draws:  # stragglers are drawn before the trials are ordered, so that they are the same ones
        lengths = with_stragglers([seconds[key.strategy] for key in trials], conditions)
        length = dict(zip(trials, lengths, strict=True))
        runs.append(simulate([length[key] for key in ORDERS[order](trials, seconds)], conditions))
    makespan = fmean(run.makespan for run in runs)
    return Forecast(
        trials=len(trials),
        gpus=draws[0].gpus,
        order=order,
        makespan_hours=makespan / 3600,
        bound_hours=fmean(run.bound for run in runs) / 3600,
        gpu_hours=draws[0].gpus * makespan / 3600,
        busy_share=fmean(run.busy / (draws[0].places * run.makespan) for run in runs),
        losses=fmean(run.losses for run in runs),
        repeated_hours=fmean(run.repeated for run in runs) / 3600,
    )


@dataclass
class _Attempt:
    trial: int
    began: float
    overhead: float  # seconds before any work is done


@dataclass
class _Gpu:
    random: random.Random
    life: int = 0  # number of losses so far; events of an earlier life are void
    attempts: list[_Attempt] = field(default_factory=list)


class _Scheduler:
    def __init__(self, left: list[float], conditions: Conditions) -> None:
        self.ended: dict[int, float] = {}
        self.busy = self.repeated = self.restarting = 0.0
        self.losses = 0
        self._conditions = conditions
        self._left = left  # seconds of work beyond the last checkpoint
        self._attempts = [0] * len(left)
        self._waiting = list(range(len(left)))  # a heap: the number of a trial is its place in the plan
        self._gpus = [_Gpu(random.Random(f"gpu {conditions.seed} {n}")) for n in range(conditions.gpus)]
        self._free: list[tuple[int, int]] = []  # a heap of (GPU, life)
        self._events: list[tuple[float, int, str, int, _Attempt | None, int]] = []
        self._number = 0

    def run(self) -> None:
        for gpu in range(len(self._gpus)):
            self._up(0.0, gpu)
        self._place(0.0)
        while len(self.ended) < len(self._left):
            now, _, what, gpu, attempt, life = heapq.heappop(self._events)
            if life != self._gpus[gpu].life:
                continue
            if attempt is not None:
                self._end(now, gpu, attempt)
            elif what == "lost":
                self._lose(now, gpu)
            else:
                self._up(now, gpu)
            self._place(now)

    def _up(self, now: float, gpu: int) -> None:
        life = self._gpus[gpu].life
        for _ in range(self._conditions.trials_per_gpu):
            heapq.heappush(self._free, (gpu, life))
        if self._conditions.losses_per_hour:
            up = self._gpus[gpu].random.expovariate(self._conditions.losses_per_hour / 3600)
            self._schedule(now + up, "lost", gpu)

    def _place(self, now: float) -> None:
        while self._waiting and self._free:
            gpu, life = heapq.heappop(self._free)
            if life == self._gpus[gpu].life:
                self._start(now, gpu, heapq.heappop(self._waiting))

    def _start(self, now: float, gpu: int, trial: int) -> None:
        self._attempts[trial] += 1
        if self._attempts[trial] > MAX_ATTEMPTS:
            raise ConfigError(
                "Expected trials that reach a checkpoint before their GPU is lost.",
                received=f"a trial that was lost {MAX_ATTEMPTS} times",
                advice="Give a lower rate of losses, or a shorter checkpoint interval.",
            )
        attempt = _Attempt(trial, now, self._conditions.restart_seconds if self._attempts[trial] > 1 else 0.0)
        self._gpus[gpu].attempts.append(attempt)
        self._schedule(now + attempt.overhead + self._left[trial], "end", gpu, attempt)

    def _end(self, now: float, gpu: int, attempt: _Attempt) -> None:
        self._gpus[gpu].attempts.remove(attempt)
        self.busy += now - attempt.began
        self.restarting += attempt.overhead
        self.ended[attempt.trial] = now
        heapq.heappush(self._free, (gpu, self._gpus[gpu].life))

    def _lose(self, now: float, gpu: int) -> None:
        self.losses += 1
        self._gpus[gpu].life += 1
        for attempt in self._gpus[gpu].attempts:
            self._interrupt(now, attempt)
        self._gpus[gpu].attempts.clear()
        self._schedule(now + self._conditions.back_seconds, "up", gpu)

    def _interrupt(self, now: float, attempt: _Attempt) -> None:
        spent = now - attempt.began
        done = max(0.0, spent - attempt.overhead)
        kept = done // self._conditions.checkpoint_seconds * self._conditions.checkpoint_seconds
        self._left[attempt.trial] = max(0.0, self._left[attempt.trial] - kept)
        self.busy += spent
        self.repeated += done - kept
        self.restarting += spent - done
        heapq.heappush(self._waiting, attempt.trial)

    def _schedule(self, time: float, what: str, gpu: int, attempt: _Attempt | None = None) -> None:
        self._number += 1  # of two events at one time, the one scheduled first comes first
        heapq.heappush(self._events, (time, self._number, what, gpu, attempt, self._gpus[gpu].life))

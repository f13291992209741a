"""The scheduler without the training: when trials of known length end on GPUs that may be lost.

The engine gives the next trial in the list to the first place that is free; so does this. A GPU that is lost takes
all its trials with it; each goes back to its place in the list, which is the front (`tune_hooks.InOrder`), and starts
again from its last checkpoint. A node is taken to have one GPU.
"""

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from cxr_platform.errors import ConfigError

TRIES = 1000
"""Of one trial. One that is lost more often is shorter-lived than its checkpoints are apart, and would never end."""


@dataclass(frozen=True)
class Conditions:
    """GPUs and what goes wrong with them; losses an hour that one GPU is up, everything else in seconds.

    `straggler_share` of the trials take `straggler_factor` times as long. A trial that was lost first takes
    `restart_seconds` in which it does no work. `back_seconds` after its loss a GPU is there again.
    """

    gpus: int
    trials_per_gpu: int = 1
    straggler_share: float = 0.0
    straggler_factor: float = 1.0
    losses_an_hour: float = 0.0
    checkpoint_seconds: float = 60.0
    restart_seconds: float = 0.0
    back_seconds: float = 300.0
    seed: int = 0

    def __post_init__(self) -> None:
        rules = {
            "at least one GPU and one trial a GPU": self.gpus >= 1 and self.trials_per_gpu >= 1,
            "a share of stragglers of 0 to 1": 0 <= self.straggler_share <= 1,
            "a factor of stragglers of 1 or more": self.straggler_factor >= 1,
            "no rate or time below 0": min(self.losses_an_hour, self.restart_seconds, self.back_seconds) >= 0,
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
    """Seconds. `work` is what the trials need, `repeated` what was done twice because a GPU was lost, `restarting`
    what its trials took to start again, `losses` of GPUs until the end. No order of trials ends before `bound`.
    """

    makespan: float
    bound: float
    work: float
    busy: float
    repeated: float
    restarting: float
    losses: int
    ended: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Makespan over bound; 1 is the best there is."""
        return self.makespan / self.bound


def lengthened(seconds: Sequence[float], conditions: Conditions) -> list[float]:
    """The trials with stragglers among them, the same ones for one seed whatever the GPUs."""
    count = round(conditions.straggler_share * len(seconds))
    slow = set(random.Random(f"stragglers {conditions.seed}").sample(range(len(seconds)), count))
    return [s * conditions.straggler_factor if i in slow else s for i, s in enumerate(seconds)]


def lower_bound(seconds: Sequence[float], places: int) -> float:
    """Seconds that any schedule takes: all work spread evenly, or the longest trial."""
    return max(sum(seconds) / places, *seconds)


def simulate(seconds: Sequence[float], conditions: Conditions) -> Simulated:
    """Run trials of `seconds` each (stragglers included) in this order. Raises `ConfigError` for none, for one of no
    length, and where a trial would never end.
    """
    if not seconds or min(seconds) <= 0:
        raise ConfigError("Expected trials that take more than 0 s.", received=list(seconds)[:8])
    scheduler = _Scheduler(list(seconds), conditions)
    scheduler.run()
    return Simulated(
        makespan=max(scheduler.ended.values()),
        bound=lower_bound(seconds, conditions.places),
        work=sum(seconds),
        busy=scheduler.busy,
        repeated=scheduler.repeated,
        restarting=scheduler.restarting,
        losses=scheduler.losses,
        ended=tuple(scheduler.ended[trial] for trial in range(len(seconds))),
    )


@dataclass
class _Attempt:
    trial: int
    began: float
    overhead: float  # seconds before any work is done


@dataclass
class _Gpu:
    random: random.Random
    life: int = 0  # counted up by every loss, so that what was to happen before it is known to be void
    attempts: list[_Attempt] = field(default_factory=list)


class _Scheduler:
    def __init__(self, left: list[float], conditions: Conditions) -> None:
        self.ended: dict[int, float] = {}
        self.busy = self.repeated = self.restarting = 0.0
        self.losses = 0
        self._conditions = conditions
        self._left = left  # seconds of work beyond the last checkpoint
        self._tries = [0] * len(left)
        self._waiting = list(range(len(left)))  # a heap: a trial's number is its place in the list
        self._cards = [_Gpu(random.Random(f"gpu {conditions.seed} {n}")) for n in range(conditions.gpus)]
        self._free: list[tuple[int, int]] = []  # a heap of (GPU, life)
        self._events: list[tuple[float, int, str, int, _Attempt | None, int]] = []
        self._number = 0

    def run(self) -> None:
        for gpu in range(len(self._cards)):
            self._up(0.0, gpu)
        self._place(0.0)
        while len(self.ended) < len(self._left):
            now, _, what, gpu, attempt, life = heapq.heappop(self._events)
            if life != self._cards[gpu].life:
                continue
            if attempt is not None:
                self._end(now, gpu, attempt)
            elif what == "lost":
                self._lose(now, gpu)
            else:
                self._up(now, gpu)
            self._place(now)

    def _up(self, now: float, gpu: int) -> None:
        life = self._cards[gpu].life
        for _ in range(self._conditions.trials_per_gpu):
            heapq.heappush(self._free, (gpu, life))
        if self._conditions.losses_an_hour:
            up = self._cards[gpu].random.expovariate(self._conditions.losses_an_hour / 3600)
            self._expect(now + up, "lost", gpu)

    def _place(self, now: float) -> None:
        while self._waiting and self._free:
            gpu, life = heapq.heappop(self._free)
            if life == self._cards[gpu].life:
                self._start(now, gpu, heapq.heappop(self._waiting))

    def _start(self, now: float, gpu: int, trial: int) -> None:
        self._tries[trial] += 1
        if self._tries[trial] > TRIES:
            raise ConfigError(
                "Expected trials that reach a checkpoint before their GPU is lost.",
                received=f"a trial that was lost {TRIES} times",
                advice="Give a lower rate of losses, or checkpoints that are less far apart.",
            )
        attempt = _Attempt(trial, now, self._conditions.restart_seconds if self._tries[trial] > 1 else 0.0)
        self._cards[gpu].attempts.append(attempt)
        self._expect(now + attempt.overhead + self._left[trial], "end", gpu, attempt)

    def _end(self, now: float, gpu: int, attempt: _Attempt) -> None:
        self._cards[gpu].attempts.remove(attempt)
        self.busy += now - attempt.began
        self.restarting += attempt.overhead
        self.ended[attempt.trial] = now
        heapq.heappush(self._free, (gpu, self._cards[gpu].life))

    def _lose(self, now: float, gpu: int) -> None:
        self.losses += 1
        self._cards[gpu].life += 1
        for attempt in self._cards[gpu].attempts:
            self._interrupt(now, attempt)
        self._cards[gpu].attempts.clear()
        self._expect(now + self._conditions.back_seconds, "up", gpu)

    def _interrupt(self, now: float, attempt: _Attempt) -> None:
        spent = now - attempt.began
        done = max(0.0, spent - attempt.overhead)
        kept = done // self._conditions.checkpoint_seconds * self._conditions.checkpoint_seconds
        self._left[attempt.trial] = max(0.0, self._left[attempt.trial] - kept)
        self.busy += spent
        self.repeated += done - kept
        self.restarting += spent - done
        heapq.heappush(self._waiting, attempt.trial)

    def _expect(self, time: float, what: str, gpu: int, attempt: _Attempt | None = None) -> None:
        self._number += 1  # of two events at one time the one that was expected first comes first
        heapq.heappush(self._events, (time, self._number, what, gpu, attempt, self._cards[gpu].life))

"""What a study would take on clusters that nobody has at hand: its trials simulated, in its order and in others."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from cxr_platform.config import Profile
from cxr_platform.domain.strategies import STRATEGY_NAMES
from cxr_platform.domain.study import TrialKey
from cxr_platform.training.plan import planned_trials
from cxr_platform.training.simulation import Conditions, Simulated, lengthened, simulate

Order = Callable[[list[TrialKey], Mapping[str, float]], list[TrialKey]]

OWN, LONGEST, LISTED = "the study's", "longest first", "as listed"
ORDERS: Mapping[str, Order] = {
    OWN: lambda trials, _: trials,
    LONGEST: lambda trials, seconds: sorted(trials, key=lambda key: -seconds[key.strategy]),
    LISTED: lambda trials, _: sorted(trials, key=lambda key: STRATEGY_NAMES.index(key.strategy)),
}
"""None knows beforehand which trials will be stragglers. The list is the paper's, with scratch at its end."""


@dataclass(frozen=True)
class Forecast:
    """Means over the seeds, in hours. `gpu_hours` are those of all GPUs until the end, busy or not; `busy_share` of
    all places times the makespan, work that was done twice included.
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
    """`count` trials in the order in which a study of `profile` would run them, as many of each strategy as can be."""
    folds = -(-count // len(strategies))
    trials = planned_trials(replace(profile, folds=folds), strategies)
    chosen = set(sorted(trials, key=lambda key: key.fold)[:count])
    return [key for key in trials if key in chosen]


def forecast(
    trials: list[TrialKey], seconds: Mapping[str, float], conditions: Conditions, repeats: int
) -> list[Forecast]:
    """One for each of `ORDERS` that differs from the study's, over `repeats` seeds from that of `conditions` on.

    All have the same stragglers and, GPU by GPU, the same losses.
    """
    calm = conditions.losses_an_hour == 0 and conditions.straggler_share == 0
    seeds = [conditions.seed + n for n in range(1 if calm else repeats)]
    draws = [replace(conditions, seed=seed) for seed in seeds]
    names = [name for name in ORDERS if name == OWN or ORDERS[name](trials, seconds) != trials]
    return [_mean(name, trials, seconds, draws) for name in names]


def saving(rows: Sequence[Forecast]) -> float | None:
    """The largest share of a makespan that longest first saves against the study's order, negative where it only costs.

    `None` where they are the same.
    """
    own = {(row.trials, row.gpus): row.makespan_hours for row in rows if row.order == OWN}
    others = [row for row in rows if row.order == LONGEST]
    return max((1 - row.makespan_hours / own[row.trials, row.gpus] for row in others), default=None)


def _mean(
    order: str, trials: list[TrialKey], seconds: Mapping[str, float], conditions: Sequence[Conditions]
) -> Forecast:
    runs = [_run(order, trials, seconds, each) for each in conditions]
    gpus = conditions[0].gpus
    return Forecast(
        trials=len(trials),
        gpus=gpus,
        order=order,
        makespan_hours=fmean(run.makespan for run in runs) / 3600,
        bound_hours=fmean(run.bound for run in runs) / 3600,
        gpu_hours=gpus * fmean(run.makespan for run in runs) / 3600,
        busy_share=fmean(run.busy / (conditions[0].places * run.makespan) for run in runs),
        losses=fmean(run.losses for run in runs),
        repeated_hours=fmean(run.repeated for run in runs) / 3600,
    )


def _run(order: str, trials: list[TrialKey], seconds: Mapping[str, float], conditions: Conditions) -> Simulated:
    """The stragglers are drawn before the order is chosen: which trials they are does not depend on it."""
    lengths = lengthened([seconds[key.strategy] for key in trials], conditions)
    length = dict(zip(trials, lengths, strict=True))
    return simulate([length[key] for key in ORDERS[order](trials, seconds)], conditions)

"""A study's status in a terminal, and as plain values for programs."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from statistics import fmean
from typing import TYPE_CHECKING, Any

from cxr_platform.domain.study import TrialState
from cxr_platform.training.status import STATES, Cost, StudyStatus, TimeLeft, cpu_hours, gpu_hours, time_left

if TYPE_CHECKING:
    from rich.table import Table

SHOWN = 20
"""Running trials in a terminal; --json has all."""


def status_tables(status: StudyStatus) -> "Iterator[Table]":
    """Strategies, nodes, and the trials that run."""
    title = f"{status.name}: {len(status.finished)}/{status.trials} trials"
    yield _counts_table(title, "Strategy", status.by_strategy(), _mean_seconds(status))
    if nodes := status.by_node():
        yield _counts_table("", "Node", nodes)
    if status.begun:
        yield _running_table([*status.stalled, *status.running], status.at)


def status_lines(status: StudyStatus) -> Iterator[str]:
    """Time left and cost, with how they are known, and what is wrong."""
    yield _left_line(time_left(status), bool(status.finished))
    for name, cost in (("CPU", cpu_hours(status)), ("GPU", gpu_hours(status))):
        yield _cost_line(name, cost)
    if status.stalled:
        yield f"{len(status.stalled)} stalled: nothing heard for five minutes, their node was probably lost."
    if status.unreadable:
        names = ", ".join(map(str, status.unreadable[:8]))
        yield f"{len(status.unreadable)} with a damaged file, taken as not begun: {names}."


def plain(status: StudyStatus) -> dict[str, Any]:
    """Values for JSON: seconds and hours, null for what is not known."""
    return {
        "name": status.name,
        "at": status.at.isoformat(timespec="seconds"),
        "trials": status.trials,
        "states": status.counts(),
        "nodes": _plain_counts(status.by_node()),
        "strategies": _plain_counts(status.by_strategy()),
        "mean_seconds": _mean_seconds(status),
        "running": [_plain_trial(trial) for trial in status.running],
        "stalled": [_plain_trial(trial) for trial in status.stalled],
        "unreadable": [list(key) for key in status.unreadable],
        "time_left": asdict(time_left(status)),
        "cpu_hours": asdict(cpu_hours(status)),
        "gpu_hours": asdict(gpu_hours(status)),
    }


def duration(seconds: float) -> str:
    """For a person: `40 s`, `12 min`, `3.4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _counts_table(
    title: str, what: str, rows: Mapping[str, Counter[str]], seconds: Mapping[str, float] | None = None
) -> "Table":
    from rich.table import Table

    shown = [state for state in STATES if any(counts[state] for counts in rows.values())]
    table = Table(what, title=title or None, title_justify="left")
    for heading in (*shown, *(() if seconds is None else ("mean",))):
        table.add_column(heading, justify="right")
    for name, counts in rows.items():
        mean = () if seconds is None else (duration(seconds[name]) if name in seconds else "",)
        table.add_row(name, *(str(counts[state] or "") for state in shown), *mean)
    return table


def _running_table(trials: Sequence[TrialState], now: datetime) -> "Table":
    from rich.table import Table

    more = f", the first {SHOWN} of {len(trials)}" if len(trials) > SHOWN else ""
    table = Table("Trial", "Node", title=f"Not finished{more}", title_justify="left")
    for heading in ("epoch", "trained for", "heard of"):
        table.add_column(heading, justify="right")
    for trial in trials[:SHOWN]:
        heard = f"{duration(max(0.0, (now - trial.updated).total_seconds()))} ago"
        table.add_row(str(trial.key), trial.node, f"{trial.epoch}/{trial.epochs}", duration(trial.seconds), heard)
    return table


def _left_line(left: TimeLeft, any_finished: bool) -> str:
    if left.work_seconds is None:
        return "Time left: not known before the end of an epoch."
    if left.work_seconds == 0:
        return "Time left: none, every trial is finished."
    guess = f"; guessed by relative cost: {', '.join(left.guessed)}" if left.guessed else ""
    known = (
        f"the mean of each strategy's finished ones{guess}" if any_finished else "the epochs so far of those that run"
    )
    work = f"{duration(left.work_seconds)} of trials, by {known}"
    if left.seconds is None:
        return f"Time left: not known, nothing is running; {work}."
    return f"Time left: about {duration(left.seconds)}, with {left.at_once} at once as now; {work}."


def _cost_line(name: str, cost: Cost) -> str:
    expected = "not known yet" if cost.expected is None else f"{cost.expected:.2f}"
    return f"{name}-hours: {cost.so_far:.2f} so far, {expected} when finished (attempts that were lost not counted)."


def _mean_seconds(status: StudyStatus) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for key, trial in status.finished.items():
        found.setdefault(key.strategy, []).append(trial.seconds.total)
    return {name: fmean(seconds) for name, seconds in sorted(found.items())}


def _plain_counts(groups: Mapping[str, Counter[str]]) -> dict[str, dict[str, int]]:
    return {name: dict(counts) for name, counts in groups.items()}


def _plain_trial(trial: TrialState) -> dict[str, Any]:
    return trial.model_dump(mode="json")

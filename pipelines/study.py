"""Show the progress of a study from its files, on any machine, while it runs or afterwards.

    cxr study status NAME

NAME is a study below --runs, or a path or URI.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from cxr_platform.domain.study import TrialState, total_cache_use
from cxr_platform.storage.files import read_errors
from cxr_platform.storage.paths import parse_path
from cxr_platform.training.status import (
    STATES,
    Cost,
    StudyStatus,
    TimeLeft,
    cpu_hours,
    gpu_hours,
    read_status,
    time_left,
)
from pipelines.command import console, run_command
from pipelines.options import RUNS, add_storage_option, location, parse_request

if TYPE_CHECKING:
    from rich.table import Table

SHOWN = 20
"""Largest number of running trials in a terminal; --json has all."""


@dataclass(frozen=True)
class StatusRequest:
    """Name or place of a study, and where studies are."""

    name: str
    runs: Path
    storage: Path | None
    json: bool


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 0, or 2 if there is no such study."""
    return run_command(lambda: run(parse_request(StatusRequest, parser(), argv)))


def parser() -> argparse.ArgumentParser:
    """Return the options of `cxr study`."""
    parser = argparse.ArgumentParser(
        prog="cxr study", description="Show the progress of a study from its files, while it runs or afterwards."
    )
    actions = parser.add_subparsers(dest="action", required=True)
    status = actions.add_parser("status", help="trials by state and node, time left, cost")
    status.add_argument("name", metavar="NAME", help="a study below --runs, or the path or URI of one")
    status.add_argument("--runs", type=location, default=RUNS, help="folder or URI of all studies (default: runs)")
    add_storage_option(status)
    status.add_argument("--json", action="store_true", help="print JSON")
    return parser


def run(request: StatusRequest) -> int:
    """Print the status of a study; return 0."""
    runs = request.storage / "runs" if request.storage is not None else request.runs
    candidates = (runs / request.name, parse_path(request.name))
    with read_errors(candidates[0]):
        folder = next((folder for folder in candidates if (folder / "study.json").exists()), candidates[0])
    status = read_status(folder)
    if request.json:
        print(json.dumps(plain_status(status), indent=1, allow_nan=False))
    else:
        for table in status_tables(status):
            console().print(table)
        print("\n".join(status_lines(status)))
    return 0


def status_tables(status: StudyStatus) -> "Iterator[Table]":
    """Yield tables of strategies, nodes, and running trials."""
    title = f"{status.name}: {len(status.finished)}/{status.trials} trials"
    yield _counts_table(title, "Strategy", status.by_strategy(), _mean_seconds(status))
    if nodes := status.by_node():
        yield _counts_table("", "Node", nodes)
    if status.begun:
        yield _running_table([*status.stalled, *status.running], status.at)


def status_lines(status: StudyStatus) -> Iterator[str]:
    """Yield lines with the time left and the cost, how they are estimated, and problems."""
    yield _left_line(time_left(status), bool(status.finished))
    for name, cost in (("CPU", cpu_hours(status)), ("GPU", gpu_hours(status))):
        yield _cost_line(name, cost)
    cache = total_cache_use(status.finished.values())
    if cache is not None and cache.hits + cache.misses:
        yield f"Caches of the nodes: {cache}."
    if status.stalled:
        clock = " by this machine's clock" if status.by_own_clock else ""
        yield f"{len(status.stalled)} stalled: no update for five minutes{clock}, their node was probably lost."
    if status.unreadable:
        names = ", ".join(map(str, status.unreadable[:8]))
        yield f"{len(status.unreadable)} with a damaged file, counted as not started: {names}."


def plain_status(status: StudyStatus) -> dict[str, Any]:
    """Return the values of `--json`: seconds and hours, null for what is not known."""
    cache = total_cache_use(status.finished.values())
    return {
        "name": status.name,
        "at": status.at.isoformat(timespec="seconds"),
        "by_own_clock": status.by_own_clock,
        "trials": status.trials,
        "states": status.counts(),
        "nodes": _plain_counts(status.by_node()),
        "strategies": _plain_counts(status.by_strategy()),
        "mean_seconds": _mean_seconds(status),
        "running": [trial.model_dump(mode="json") for trial in status.running],
        "stalled": [trial.model_dump(mode="json") for trial in status.stalled],
        "unreadable": [list(key) for key in status.unreadable],
        "time_left": asdict(time_left(status)),
        "cpu_hours": asdict(cpu_hours(status)),
        "gpu_hours": asdict(gpu_hours(status)),
        "cache": None if cache is None else cache.model_dump(),
    }


def duration(seconds: float) -> str:
    """Return `seconds` as text: `40 s`, `12 min`, `3.4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _counts_table(
    title: str, group: str, rows: Mapping[str, Counter[str]], seconds: Mapping[str, float] | None = None
) -> "Table":
    from rich.table import Table

    shown = [state for state in STATES if any(counts[state] for counts in rows.values())]
    table = Table(group, title=title or None, title_justify="left")
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
    for heading in ("epoch", "trained for", "last update"):
        table.add_column(heading, justify="right")
    for trial in trials[:SHOWN]:
        updated = f"{duration(max(0.0, (now - trial.updated).total_seconds()))} ago"
        table.add_row(str(trial.key), trial.node, f"{trial.epoch}/{trial.epochs}", duration(trial.seconds), updated)
    return table


def _left_line(left: TimeLeft, any_finished: bool) -> str:
    if left.work_seconds is None:
        return "Time left: not known before the end of the first epoch."
    if left.work_seconds == 0:
        return "Time left: none, every trial is finished."
    guess = f"; estimated by relative cost: {', '.join(left.guessed)}" if left.guessed else ""
    basis = f"the mean of each strategy's finished ones{guess}" if any_finished else "the epochs of the running ones"
    work = f"{duration(left.work_seconds)} of trials, by {basis}"
    if left.seconds is None:
        return f"Time left: not known, nothing is running; {work}."
    return f"Time left: about {duration(left.seconds)}, with {left.at_once} at a time as now; {work}."


def _cost_line(name: str, cost: Cost) -> str:
    expected = "not known yet" if cost.expected is None else f"{cost.expected:.2f}"
    return f"{name}-hours: {cost.so_far:.2f} so far, {expected} when finished (lost attempts not counted)."


def _mean_seconds(status: StudyStatus) -> dict[str, float]:
    seconds: dict[str, list[float]] = {}
    for key, trial in status.finished.items():
        seconds.setdefault(key.strategy, []).append(trial.seconds.total)
    return {name: fmean(values) for name, values in sorted(seconds.items())}


def _plain_counts(groups: Mapping[str, Counter[str]]) -> dict[str, dict[str, int]]:
    return {name: dict(counts) for name, counts in groups.items()}


if __name__ == "__main__":
    raise SystemExit(main())

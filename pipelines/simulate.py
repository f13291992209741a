"""Forecast the duration of a study on other hardware: its scheduler is simulated, nothing is trained.

    cxr simulate --study runs/NAME --gpus 1 8 64                      # trial times measured in a study
    cxr simulate --study runs/NAME --profile paper --images 3905      # scaled by images × pixels × epochs
    cxr simulate --times times.toml --trials 80 10000 --gpus 8 512    # source = "…" and a table [seconds] by strategy
    cxr simulate --rate 1000 20000 --images 112120 --gpus 1 8 64      # images/s of a GPU: all layers, the head alone
    cxr simulate --rate 1000 20000 --images 112120 --needs            # also memory, disk and volume

Losses of GPUs, stragglers and checkpoints are assumptions; --seed and --repeats control the random draws.
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr_platform.config import Profile, load_profile
from cxr_platform.domain.strategies import parse_strategies
from cxr_platform.domain.study import read_study
from cxr_platform.errors import ConfigError
from cxr_platform.training.simulation import Conditions, Forecast, forecast, largest_saving, study_trials
from cxr_platform.training.trial_times import (
    TrialTimes,
    assumed_times,
    measured_times,
    scaled_times,
    select_times,
    stated_times,
)
from pipelines.command import console, run_command
from pipelines.options import location, parse_request
from pipelines.study import duration

if TYPE_CHECKING:
    from rich.table import Table

    from cxr_platform.training.study_need import StudyNeed

PAPER_IMAGES = 3905
WORTH_CHANGING = 0.02
"""Smallest fraction of a makespan for which another order of trials is worth it."""


@dataclass(frozen=True)
class ConditionOptions:
    """What is assumed of the cluster."""

    trials_per_gpu: int
    stragglers: tuple[float, float]
    losses: float
    checkpoint: float
    restart: float
    back: float
    seed: int

    def conditions(self, gpus: int) -> Conditions:
        """Return the conditions of a cluster of `gpus` GPUs."""
        return Conditions(
            gpus=gpus,
            trials_per_gpu=self.trials_per_gpu,
            straggler_share=self.stragglers[0],
            straggler_factor=self.stragglers[1],
            losses_per_hour=self.losses,
            checkpoint_seconds=self.checkpoint,
            restart_seconds=self.restart,
            back_seconds=self.back,
            seed=self.seed,
        )


@dataclass(frozen=True)
class SimulateRequest:
    """The source of the trial times (one of `study`, `times` and `rate`), and the clusters and studies to simulate."""

    study: Path | None
    times: Path | None
    rate: tuple[float, float] | None
    profile: str | None
    images: float | None
    strategies: str | None
    trials: Sequence[int] | None
    gpus: Sequence[int]
    json: bool
    needs: bool
    repeats: int
    conditions: ConditionOptions


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 0, or 2 for times or conditions that cannot be simulated."""
    return run_command(lambda: run(parse_request(SimulateRequest, parser(), argv)))


def parser() -> argparse.ArgumentParser:
    """Return the options of `cxr simulate`."""
    parser = argparse.ArgumentParser(
        prog="cxr simulate", description="Forecast the duration of a study on other hardware from known trial times."
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--study", type=location, metavar="runs/NAME", help="study in which trial times were measured")
    source.add_argument("--times", type=Path, metavar="FILE", help="TOML or JSON file with trial times")
    source.add_argument(
        "--rate",
        type=float,
        nargs=2,
        metavar=("FULL", "HEAD"),
        help="images/s of a GPU that trains all layers, and the head alone",
    )
    add = parser.add_argument
    add("--profile", help="profile with size, epochs and folds (default: the study's; paper for --times and --rate)")
    add("--images", type=float, help=f"images of the study (default: the study's; {PAPER_IMAGES} for --rate)")
    add("--strategies", help="strategies separated by commas, or all (default: those with a trial time)")
    add("--trials", type=int, nargs="+", metavar="N", help="numbers of trials (default: strategies × folds)")
    add("--gpus", type=int, nargs="+", metavar="N", default=[1, 8, 64], help="numbers of GPUs (default: 1 8 64)")
    add("--json", action="store_true", help="print JSON")
    add("--needs", action="store_true", help="also print memory, disk and volume that the study needs")
    add("--trials-per-gpu", type=int, default=1, metavar="K", help="trials at a time on one GPU (default: 1)")
    add(
        "--stragglers",
        type=float,
        nargs=2,
        default=[0.0, 1.0],
        metavar=("FRACTION", "FACTOR"),
        help="fraction of trials that take FACTOR times as long (default: none)",
    )
    add("--losses", type=float, default=0.0, metavar="RATE", help="losses of a GPU per hour (default: 0)")
    add("--checkpoint", type=float, default=60.0, metavar="SECONDS", help="time between checkpoints (default: 60)")
    add("--restart", type=float, default=30.0, metavar="SECONDS", help="time to restart a lost trial (default: 30)")
    add("--back", type=float, default=300.0, metavar="SECONDS", help="time until a lost GPU is back (default: 300)")
    add("--seed", type=int, default=2020, help="seed of the random draws (default: 2020)")
    add("--repeats", type=int, default=5, help="number of draws that are averaged (default: 5)")
    return parser


def run(request: SimulateRequest) -> int:
    """Simulate every number of trials on every number of GPUs and print the forecasts; return 0."""
    if request.images is not None and not 1 <= request.images < math.inf:
        raise ConfigError("Expected at least one image.", received=f"--images {request.images:g}")
    times, profile = _trial_times(request)
    counts = request.trials or [len(times.seconds) * profile.folds]
    clusters = [request.conditions.conditions(gpus) for gpus in request.gpus]
    if min(*counts, request.repeats) < 1:
        raise ConfigError("Expected at least one trial and one repeat.", received=f"{counts}, {request.repeats}")
    forecasts = [
        row
        for count in counts
        for cluster in clusters
        for row in forecast(study_trials(profile, list(times.seconds), count), times.seconds, cluster, request.repeats)
    ]
    need = _need(request, times, profile) if request.needs else None
    if request.json:
        needs = {} if need is None else {"needs_gib": {**asdict(need), "volume": need.volume}}
        print(json.dumps({**_plain(times, clusters[0], forecasts), **needs}, indent=1, allow_nan=False))
        return 0
    print(f"Trial times: {times.origin}.")
    console().print(times_table(times.seconds))
    console().print(forecast_table(forecasts))
    print(conditions_line(clusters[0]))
    print(saving_line(forecasts))
    if need is not None:
        console().print(need_table(need, request.conditions.trials_per_gpu))
    return 0


def _need(request: SimulateRequest, times: TrialTimes, profile: Profile) -> "StudyNeed":
    from cxr_platform.training.study_need import study_need

    images = request.images
    if images is None:
        images = read_study(request.study).manifest.study_images if request.study else PAPER_IMAGES
    return study_need(profile, tuple(times.seconds), round(images), request.conditions.trials_per_gpu)


def _trial_times(request: SimulateRequest) -> tuple[TrialTimes, Profile]:
    """Return the trial times, and the profile that gives the order and the folds of the trials."""
    if request.study:
        times, profile = _measured_times(request, request.study)
        return scaled_times(times, request.images, profile), profile
    profile = load_profile(request.profile or "paper")
    if request.times:
        times = stated_times(request.times)
        times = times if request.images is None else scaled_times(times, request.images, profile)
    else:
        assert request.rate is not None, "the parser requires one source"
        full, head = request.rate
        times = assumed_times(profile, request.images or PAPER_IMAGES, full, head, request.conditions.trials_per_gpu)
    return select_times(times, request.strategies), profile


def _measured_times(request: SimulateRequest, folder: Path) -> tuple[TrialTimes, Profile]:
    study = read_study(folder)
    strategies = parse_strategies(request.strategies) if request.strategies else study.strategies
    times = measured_times(folder, study.profile, strategies)
    return times, load_profile(request.profile) if request.profile else study.profile


def _plain(times: TrialTimes, conditions: Conditions, forecasts: Sequence[Forecast]) -> dict[str, Any]:
    return {
        "trial_times": {"origin": times.origin, "seconds": dict(times.seconds)},
        "conditions": {name: value for name, value in asdict(conditions).items() if name != "gpus"},
        "forecasts": [{**asdict(row), "ratio": row.ratio} for row in forecasts],
    }


def times_table(seconds: Mapping[str, float]) -> "Table":
    """Return a table with one row per strategy."""
    from rich.table import Table

    table = Table("Strategy")
    table.add_column("One trial", justify="right")
    for name, value in seconds.items():
        table.add_row(name, duration(value))
    return table


def need_table(need: "StudyNeed", trials: int) -> "Table":
    """Return a table of the need of a study, with activations in files, and so many `trials` at a time on a node."""
    from rich.table import Table

    table = Table(f"Needs, with activations in files and {trials} trials at a time on a node")
    table.add_column("GiB", justify="right")
    rows = {
        "storage, without original images": need.volume,
        "… of it activations": need.activations,
        "… of it the manifest, at most": need.manifest,
        "… of it trials": need.trials,
        "cache of each node": need.cache,
        "memory of each node": need.memory,
    }
    for name, gib in rows.items():
        table.add_row(name, f"{gib:,.1f}")
    return table


def forecast_table(forecasts: Sequence[Forecast]) -> "Table":
    """Return a table with one row per number of trials, number of GPUs and order."""
    from rich.table import Table

    table = Table()
    headings = ("Trials", "GPUs", "Makespan", "Bound", "Ratio", "GPU-hours", "Busy", "Losses", "Done twice")
    for heading in headings:
        table.add_column(heading, justify="right")
    table.add_column("Order")
    for row in forecasts:
        makespan, bound, repeated = (
            duration(3600 * hours) for hours in (row.makespan_hours, row.bound_hours, row.repeated_hours)
        )
        busy = f"{100 * row.busy_share:.0f} %"
        figures = (f"{row.ratio:.3f}", f"{row.gpu_hours:,.1f}", busy, f"{row.losses:.1f}", repeated)
        table.add_row(f"{row.trials:,}", str(row.gpus), makespan, bound, *figures, row.order)
    return table


def conditions_line(conditions: Conditions) -> str:
    """Return what was assumed of the cluster."""
    slow = f"{100 * conditions.straggler_share:g} % of the trials take {conditions.straggler_factor:g} times as long"
    lost = (
        f"a GPU is lost {conditions.losses_per_hour:g} times per hour and back after {conditions.back_seconds:g} s, "
        f"a lost trial continues after {conditions.restart_seconds:g} s from a checkpoint that is at most "
        f"{conditions.checkpoint_seconds:g} s old"
    )
    return "; ".join(
        [
            f"{conditions.trials_per_gpu} at a time on a GPU",
            slow if conditions.straggler_share else "no stragglers",
            lost if conditions.losses_per_hour else "no GPU is lost",
        ]
    )


def saving_line(forecasts: Sequence[Forecast]) -> str:
    """Return whether another order of the trials is worth it."""
    share = largest_saving(forecasts)
    if share is None:
        return "The study's order is longest first already."
    verdict = "worth changing" if share >= WORTH_CHANGING else "not worth changing"
    return f"Longest first would save at most {max(0.0, 100 * share):.1f} % of a makespan: {verdict}."


if __name__ == "__main__":
    raise SystemExit(main())

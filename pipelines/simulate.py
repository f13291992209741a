"""What a study would take on other hardware: its scheduler simulated with known trial times; nothing is trained.

    cxr simulate --study runs/NAME --gpus 1 8 64                      # trial times as measured there, a trial a place
    cxr simulate --study runs/NAME --profile paper --images 3905      # scaled by images × pixels × epochs
    cxr simulate --times times.toml --trials 80 10000 --gpus 8 512    # source = "…" and a table [seconds] by strategy
    cxr simulate --rate 1000 20000 --images 112120 --gpus 1 8 64      # images/s of a GPU: everything, the head alone

Losses, stragglers and checkpoints are given; `--seed` and `--repeats` say which are drawn. --json is for programs.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.command import run_command
from pipelines.places import a_place

if TYPE_CHECKING:
    from cxr_platform.config import Profile
    from cxr_platform.training.forecast import Forecast
    from cxr_platform.training.simulation import Conditions
    from cxr_platform.training.trial_times import TrialTimes

PIPED_COLUMNS = 120
PAPER_IMAGES = 3905


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 for times or conditions that cannot be simulated."""
    arguments = _parser().parse_args(argv)
    return run_command(lambda: _run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cxr simulate", description=__doc__.split("\n")[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--study", type=a_place, metavar="runs/NAME", help="trial times that this study measured")
    source.add_argument("--times", type=Path, metavar="FILE", help="trial times stated in TOML or JSON")
    source.add_argument(
        "--rate", type=float, nargs=2, metavar=("FULL", "HEAD"), help="images/s of a GPU: training all, the head alone"
    )
    parser.add_argument("--profile", help="size, epochs and folds (default: the study's; paper for --times and --rate)")
    parser.add_argument("--images", type=float, help=f"of the study (default: the study's; {PAPER_IMAGES} for --rate)")
    parser.add_argument("--strategies", help="all, or some, separated by commas (default: those with a time)")
    parser.add_argument("--trials", type=int, nargs="+", metavar="N", help="(default: strategies × folds)")
    parser.add_argument("--gpus", type=int, nargs="+", metavar="N", default=[1, 8, 64], help="(default: 1 8 64)")
    parser.add_argument("--json", action="store_true", help="print JSON for a program")
    _add_conditions(parser)
    return parser


def _add_conditions(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--trials-per-gpu", type=int, default=1, metavar="K", help="trials at once on a GPU (default: 1)")
    add("--stragglers", type=float, nargs=2, default=[0.0, 1.0], metavar=("SHARE", "FACTOR"), help="(default: none)")
    add("--losses", type=float, default=0.0, metavar="RATE", help="of a GPU, an hour that it is up (default: 0)")
    add("--checkpoint", type=float, default=60.0, metavar="SECONDS", help="between two of a trial (default: 60)")
    add("--restart", type=float, default=30.0, metavar="SECONDS", help="until a lost trial trains again (default: 30)")
    add("--back", type=float, default=300.0, metavar="SECONDS", help="until a lost GPU is there again (default: 300)")
    add("--seed", type=int, default=2020, help="of what is drawn (default: 2020)")
    add("--repeats", type=int, default=5, help="draws that are averaged (default: 5)")


def _run(arguments: argparse.Namespace) -> int:
    from cxr_platform.training.forecast import forecast, study_trials

    times, profile = _times(arguments)
    counts = arguments.trials or [len(times.seconds) * profile.folds]
    conditions = [_conditions(arguments, gpus) for gpus in arguments.gpus]
    _check_counts(counts, arguments.repeats)
    rows = [
        row
        for count in counts
        for each in conditions
        for row in forecast(study_trials(profile, list(times.seconds), count), times.seconds, each, arguments.repeats)
    ]
    _print(times, conditions[0], rows, arguments.json)
    return 0


def _check_counts(counts: Sequence[int], repeats: int) -> None:
    from cxr_platform.errors import ConfigError

    if min(*counts, repeats) < 1:
        raise ConfigError("Expected at least one trial and one repeat.", received=f"{counts}, {repeats}")


def _times(arguments: argparse.Namespace) -> "tuple[TrialTimes, Profile]":
    """The times asked for, and the profile whose order and folds the trials have."""
    from cxr_platform.config import load_profile
    from cxr_platform.training.trial_times import chosen, rated, scaled, stated

    if arguments.study:
        times, profile = _measured(arguments)
        return scaled(times, arguments.images, profile), profile
    profile = load_profile(arguments.profile or "paper")
    if arguments.times:
        times = stated(arguments.times)
        times = times if arguments.images is None else scaled(times, arguments.images, profile)
    else:
        full, head = arguments.rate
        times = rated(profile, arguments.images or PAPER_IMAGES, full, head, arguments.trials_per_gpu)
    return chosen(times, arguments.strategies), profile


def _measured(arguments: argparse.Namespace) -> "tuple[TrialTimes, Profile]":
    from cxr_platform.config import load_profile
    from cxr_platform.domain.strategies import parse_strategies
    from cxr_platform.domain.study import read_study
    from cxr_platform.training.trial_times import measured

    study = read_study(arguments.study)
    strategies = parse_strategies(arguments.strategies) if arguments.strategies else study.strategies
    times = measured(arguments.study, study.profile, strategies)
    return times, load_profile(arguments.profile) if arguments.profile else study.profile


def _conditions(arguments: argparse.Namespace, gpus: int) -> "Conditions":
    from cxr_platform.training.simulation import Conditions

    return Conditions(
        gpus=gpus,
        trials_per_gpu=arguments.trials_per_gpu,
        straggler_share=arguments.stragglers[0],
        straggler_factor=arguments.stragglers[1],
        losses_an_hour=arguments.losses,
        checkpoint_seconds=arguments.checkpoint,
        restart_seconds=arguments.restart,
        back_seconds=arguments.back,
        seed=arguments.seed,
    )


def _print(times: "TrialTimes", conditions: "Conditions", rows: "Sequence[Forecast]", as_json: bool) -> None:
    if as_json:
        print(json.dumps(_plain(times, conditions, rows), indent=1, allow_nan=False))
        return
    from rich.console import Console

    from pipelines.simulate_tables import conditions_line, forecast_table, saving_line, times_table

    console = Console(width=None if sys.stdout.isatty() else PIPED_COLUMNS, highlight=False, markup=False)
    print(f"Trial times: {times.origin}.")
    console.print(times_table(times.seconds))
    console.print(forecast_table(rows))
    print(conditions_line(conditions))
    print(saving_line(rows))


def _plain(times: "TrialTimes", conditions: "Conditions", rows: "Sequence[Forecast]") -> dict[str, Any]:
    told = {name: value for name, value in asdict(conditions).items() if name != "gpus"}
    return {
        "trial_times": {"origin": times.origin, "seconds": dict(times.seconds)},
        "conditions": told,
        "forecasts": [{**asdict(row), "ratio": row.ratio} for row in rows],
    }


if __name__ == "__main__":
    raise SystemExit(main())

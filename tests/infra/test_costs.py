"""The costs in infra/README.md agree with the simulation, under the rates that they assume."""

import re
from dataclasses import replace

import pytest

from cxr_platform.config import load_profile
from cxr_platform.domain.strategies import STRATEGY_NAMES
from cxr_platform.training.simulation import LISTED, OWN, Conditions, Forecast, forecast, study_trials
from cxr_platform.training.study_need import study_need
from cxr_platform.training.trial_times import assumed_times
from tests.conftest import REPOSITORY

TEXT = (REPOSITORY / "infra" / "README.md").read_text(encoding="utf-8")
PAPER = load_profile("paper")


def simulated(images: int, gpus: int, **conditions: float) -> Forecast:
    times = assumed_times(PAPER, images, full_rate=1000, head_rate=20000, trials_per_gpu=1)
    trials = study_trials(PAPER, list(times.seconds), 80)
    rows = forecast(trials, times.seconds, Conditions(gpus, **conditions), repeats=20)
    return next(row for row in rows if row.order == OWN)


def row(beginning: str) -> list[str]:
    line = next(line for line in TEXT.splitlines() if line.startswith(f"| {beginning}"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def numbers(cell: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", cell)]


@pytest.mark.parametrize(("beginning", "images"), [("the paper's size", 3905), ("all of NIH", 112_120)])
def test_the_table_of_sizes_and_gpus_agrees_with_the_simulation(beginning: str, images: int) -> None:
    for gpus, cell in zip((1, 8, 64), row(beginning), strict=True):
        simulation = simulated(images, gpus)
        hours, used, *held = numbers(cell)
        assert hours == pytest.approx(simulation.makespan_hours, rel=0.02)
        assert used == pytest.approx(simulation.gpu_hours * simulation.busy_share, rel=0.02)
        assert held == ([pytest.approx(simulation.gpu_hours, rel=0.02)] if gpus == 64 else [])


@pytest.mark.parametrize(
    ("beginning", "conditions"),
    [
        ("0 |", {}),
        ("0.05 |", {"losses_per_hour": 0.05}),
        ("0.5 |", {"losses_per_hour": 0.5}),
        ("2 |", {"losses_per_hour": 2}),
        ("0, and 5 %", {"straggler_share": 0.05, "straggler_factor": 3}),
    ],
)
def test_the_table_of_losses_agrees_with_the_simulation(beginning: str, conditions: dict[str, float]) -> None:
    *hours, repeated = (numbers(cell)[0] for cell in row(beginning))
    drawn = {"checkpoint_seconds": 100, "restart_seconds": 30, "seed": 2020, **conditions}
    eight, many = (simulated(112_120, gpus, **drawn) for gpus in (8, 64))

    assert hours == pytest.approx([eight.makespan_hours, many.makespan_hours], abs=0.006)
    assert repeated == pytest.approx(eight.repeated_hours, abs=0.006)


def scheduler_table() -> dict[int, list[list[float]]]:
    """Number of trials → for each number of GPUs the ratio, and that of the paper's order in brackets."""
    section = TEXT[TEXT.index("### The scheduler compared") :]
    rows = [line.strip("|").split("|") for line in section.splitlines() if re.match(r"\| [\d,]+ \|", line)]
    return {int(first.replace(",", "")): [numbers(cell) for cell in cells] for first, *cells in rows}


@pytest.mark.parametrize("count", [80, 1000, 10_000])
def test_the_table_of_the_scheduler_agrees_with_the_simulation(count: int) -> None:
    seconds = {"scratch": 519.0, "off-the-shelf": 43.0}  # as the text above the table states
    assert "scratch 519 s per trial" in TEXT
    assert "off-the-shelf 43 s" in TEXT
    trials = study_trials(load_profile("quick"), list(seconds), count)
    for gpus, cell in zip((1, 8, 64, 512), scheduler_table()[count], strict=True):
        drawn = Conditions(gpus, straggler_share=0.05, straggler_factor=3, losses_per_hour=0.1, seed=2020)
        conditions = replace(drawn, checkpoint_seconds=60, restart_seconds=30)
        ratios = {row.order: row.ratio for row in forecast(trials, seconds, conditions, repeats=5)}
        assert cell == [pytest.approx(ratios[order], abs=0.006) for order in (OWN, LISTED)], f"{gpus} GPUs"


@pytest.mark.parametrize(
    ("beginning", "profile", "images", "trials"),
    [
        ("112,120, paper | 2", "paper", 112_120, 2),
        ("112,120, paper | 4", "paper", 112_120, 4),
        ("3,905, quick | 2", "quick", 3905, 2),
    ],
)
def test_the_table_of_needs_is_what_simulate_prints(beginning: str, profile: str, images: int, trials: int) -> None:
    need = study_need(load_profile(profile), STRATEGY_NAMES, images, trials)
    assert [f"{gib:,.1f}" for gib in (need.volume, need.cache, need.memory)] == row(beginning)[1:]


def test_the_two_constants_follow_from_the_profile() -> None:
    times = assumed_times(PAPER, 1, full_rate=1, head_rate=20, trials_per_gpu=1).seconds

    assert sum(times.values()) * PAPER.folds == pytest.approx(804, abs=1)
    assert max(times.values()) == pytest.approx(54)


def test_the_rates_of_a_gpu_are_those_of_its_page() -> None:
    page = (REPOSITORY / "docs" / "results" / "2026-11-28-gpu.md").read_text(encoding="utf-8")
    for rate in ("6,027", "11,608"):
        assert rate in TEXT
        assert rate in page or rate.replace(",", "") in page


def test_the_text_says_first_that_the_rates_are_assumed() -> None:
    section = TEXT[TEXT.index("## What a study costs") :]

    assert section.index("**The rates of these tables are assumed.**") < section.index("804 times")
    assert "**assumes** R = 1,000 images/s" in section

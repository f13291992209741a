"""Simulate how often the statements of the report about strategies are wrong: sizes of tests, coverage, bias.

Images belong to patients of one to four images. Whether a strategy is right on an image depends on the difficulty of
the image, which all strategies share, and on chance of its own. The share of the latter that is the same for all images
of a patient, `within`, runs from 0 (images are independent) to 1 (a patient's images stand or fall together).
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from cxr_platform.evaluation.statistics.comparison import compare_pairs, picked_accuracy, sign_test
from pipelines.benchmarks import write_result

STRATEGIES = 8
ACCURACY = 0.8
SHARED = 0.5
"""Variance of the difficulty that all strategies share, of 1."""
WITHIN = (0.0, 0.25, 0.5, 0.75, 1.0)
SPREADS = (0.0, 0.01, 0.02, 0.05)
"""Distance in accuracy between the best and the worst strategy."""
LEVEL = 0.05


@dataclass(frozen=True)
class StatisticsRequest:
    """Simulated studies per line, patients of each study, bootstrap replicates, the seed, and a file for the result."""

    studies: int
    patients: int
    replicates: int
    seed: int
    json: Path | None = None


@dataclass(frozen=True)
class PickSimulation:
    """Accuracy of the picked strategy, measured and corrected, minus its true accuracy, in points: means over studies.

    `coverage` is the percentage of studies whose corrected interval holds the true accuracy.
    """

    measured: float
    corrected: float
    coverage: float


@dataclass(frozen=True)
class PairSimulation:
    """Percentages of studies: with a wrong statement about the winner, by the former way and by the present one; and
    with all differences of pairs inside their intervals.
    """

    winner_only: float
    all_pairs: float
    coverage: float


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `cxr benchmark statistics`."""
    parser.add_argument("--studies", type=int, default=4000, help="simulated studies per line (default: 4000)")
    parser.add_argument("--patients", type=int, default=300, help="patients of each study (default: 300)")
    parser.add_argument("--replicates", type=int, default=500, help="bootstrap replicates per study (default: 500)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the simulation (default: 0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result with hardware and versions")


def run(request: StatisticsRequest) -> int:
    """Print sizes, coverage and bias; return 0."""
    random, group = np.random.default_rng(request.seed), patients(request.patients)
    signs, equal, picked = [], [], []
    print(f"{request.studies} studies per line, {request.patients} patients with {len(group)} images")
    print("\nSign test over patients, two equal strategies, share of p < 0.05 (%)")
    print("share within patients   images as patients   patients")
    for within in WITHIN:
        by_image, by_patient = sign_test_sizes(random, group, within, request.studies)
        signs.append({"within": within, "images": by_image, "patients": by_patient})
        print(f"{within:21.2f}   {by_image:18.2f}   {by_patient:8.2f}")
    print(f"\n{STRATEGIES} equal strategies, statements about the winner that are wrong (% of studies)")
    print("share within patients   pairs with the winner   all pairs   all intervals hold")
    for within in (0.0, 0.5, 1.0):
        pairs = simulate_pairs(random, group, within, request.studies, request.replicates)
        equal.append({"within": within, **asdict(pairs)})
        print(f"{within:21.2f}   {pairs.winner_only:21.2f}   {pairs.all_pairs:9.2f}   {pairs.coverage:18.2f}")
    print(f"\nAccuracy of the best of {STRATEGIES} minus its true accuracy (points)")
    print("best minus worst   measured   corrected   corrected interval holds (%)")
    for spread in SPREADS:
        pick = simulate_pick(random, group, spread, request.studies, request.replicates)
        picked.append({"spread": 100 * spread, **asdict(pick)})
        print(f"{100 * spread:16.1f}   {pick.measured:+8.2f}   {pick.corrected:+9.2f}   {pick.coverage:28.2f}")
    if request.json is not None:
        settings = {name: value for name, value in asdict(request).items() if name != "json"}
        result = {"images": len(group), "sign_test": signs, "equal_strategies": equal, "picked": picked}
        write_result(request.json, "statistics", {**settings, "strategies": STRATEGIES, **result})
    return 0


def patients(number: int) -> NDArray[np.int64]:
    """Return (N,) the patient of each image: one, two, three or four images each in turn."""
    return np.repeat(np.arange(number), 1 + np.arange(number) % 4)


def draw_correct(
    random: np.random.Generator, group: NDArray[np.int64], accuracy: Sequence[float], within: float, studies: int = 1
) -> NDArray[np.bool_]:
    """Return (N, studies, S) bool, where each of S strategies of that `accuracy` (0 to 1) is right."""
    images, drawn = len(group), (studies, len(accuracy))
    shared = random.standard_normal((images, studies, 1), np.float32)
    own = random.standard_normal((images, *drawn), np.float32) * np.float32(np.sqrt(1 - within))
    if within:
        own += random.standard_normal((group.max() + 1, *drawn), np.float32)[group] * np.float32(np.sqrt(within))
        if within == 1:
            shared = shared[np.searchsorted(group, group)]  # the first image of the patient speaks for all
    skill = np.sqrt(SHARED) * shared + np.sqrt(1 - SHARED) * own
    right: NDArray[np.bool_] = skill < ndtri(np.array(accuracy)).astype(np.float32)
    return right


def sign_test_sizes(
    random: np.random.Generator, group: NDArray[np.int64], within: float, studies: int
) -> tuple[float, float]:
    """Return the percentages of p < 0.05 with two equal strategies: each image its own group, and by patients."""
    right = draw_correct(random, group, (ACCURACY, ACCURACY), within, studies)
    gaps = right[..., 0].astype(int) - right[..., 1]
    by_patient = np.add.reduceat(gaps, np.unique(group, return_index=True)[1])
    by_image, by_patient = sign_test(gaps), sign_test(by_patient)
    return 100 * float((by_image < LEVEL).mean()), 100 * float((by_patient < LEVEL).mean())


def simulate_pairs(
    random: np.random.Generator, group: NDArray[np.int64], within: float, studies: int, replicates: int
) -> PairSimulation:
    """Compare the best of equal strategies with the others in the way that the report does."""
    bootstrap = Bootstrap(group, replicates)
    winner_only, all_pairs, coverage = 0, 0, 0
    for _ in range(studies):
        right = draw_correct(random, group, (ACCURACY,) * STRATEGIES, within)[:, 0]
        winner, pairs = int(right.sum(axis=0).argmax()), compare_pairs(right, bootstrap)
        of_winner = (pairs.first == winner) | (pairs.second == winner)
        outside = np.abs(pairs.difference) > pairs.margin
        winner_only += bool(pairs.p_value[of_winner].min() < LEVEL / (STRATEGIES - 1))
        all_pairs += bool((of_winner & outside & (pairs.p_adjusted < LEVEL)).any())
        coverage += not outside.any()
    return PairSimulation(*(100 * count / studies for count in (winner_only, all_pairs, coverage)))


def simulate_pick(
    random: np.random.Generator, group: NDArray[np.int64], spread: float, studies: int, replicates: int
) -> PickSimulation:
    """Pick the best of strategies whose accuracies are evenly `spread`, and correct its accuracy."""
    accuracy, bootstrap = ACCURACY - np.linspace(0, spread, STRATEGIES), Bootstrap(group, replicates)
    measured, corrected, inside = [], [], 0
    for _ in range(studies):
        right = draw_correct(random, group, accuracy.tolist(), within=0.5)[:, 0]
        winner = int(right.sum(axis=0).argmax())
        true, picked = 100 * accuracy[winner], picked_accuracy(right, winner, bootstrap)
        low, high = (float("nan") if v is None else v for v in (picked.corrected.low, picked.corrected.high))
        measured.append(100 * right[:, winner].mean() - true)
        corrected.append(measured[-1] - picked.optimism)
        inside += low <= true <= high
    return PickSimulation(float(np.mean(measured)), float(np.mean(corrected)), 100 * inside / studies)

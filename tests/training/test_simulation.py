import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_platform.errors import ConfigError
from cxr_platform.training.simulation import Conditions, lengthened, lower_bound, simulate

TRIALS = st.lists(st.floats(1, 1000), min_size=1, max_size=60)
PLACES = {"gpus": st.integers(1, 8), "trials_per_gpu": st.integers(1, 3)}
CALM = st.builds(Conditions, **PLACES)
ROUGH = st.builds(
    Conditions,
    **PLACES,
    losses_an_hour=st.floats(0.1, 20),
    checkpoint_seconds=st.floats(1, 100),
    restart_seconds=st.floats(0, 30),
    back_seconds=st.floats(0, 600),
    seed=st.integers(0, 1000),
)


@pytest.mark.parametrize(("trials", "gpus", "each"), [(80, 1, 1), (80, 8, 1), (80, 64, 1), (10, 3, 1), (10, 1, 4)])
def test_equal_trials_run_in_full_rounds(trials: int, gpus: int, each: int) -> None:
    found = simulate([60.0] * trials, Conditions(gpus, each))

    assert found.makespan == math.ceil(trials / (gpus * each)) * 60
    assert found.bound == max(60.0, trials * 60 / (gpus * each))
    assert found.ended.count(60.0) == min(trials, gpus * each)


def test_a_long_trial_at_the_end_is_waited_for_and_at_the_start_is_not() -> None:
    assert simulate([1, 1, 1, 1, 4], Conditions(2)).makespan == 6
    assert simulate([4, 1, 1, 1, 1], Conditions(2)).makespan == 4


def test_longest_first_is_not_always_the_best_there_is() -> None:
    found = simulate([3, 3, 2, 2, 2], Conditions(2))

    assert (found.makespan, found.bound) == (7, 6)
    assert found.ratio == pytest.approx(7 / 6)


def test_more_gpus_than_trials_do_not_help() -> None:
    assert simulate([5.0, 7.0], Conditions(512)).makespan == 7


@given(TRIALS, CALM)
def test_no_order_ends_later_than_twice_the_bound(seconds: list[float], conditions: Conditions) -> None:
    """Graham 1969: at most 2 − 1/m times the best, of which the bound is less."""
    found = simulate(seconds, conditions)

    assert found.bound == lower_bound(seconds, conditions.places)
    assert found.bound * (1 - 1e-9) <= found.makespan
    assert found.makespan <= (2 - 1 / conditions.places) * found.bound * (1 + 1e-9)


@given(TRIALS, CALM)
def test_without_losses_no_second_is_worked_twice(seconds: list[float], conditions: Conditions) -> None:
    found = simulate(seconds, conditions)

    assert found.busy == pytest.approx(sum(seconds))
    assert (found.repeated, found.restarting, found.losses) == (0, 0, 0)


@settings(max_examples=60)
@given(TRIALS, ROUGH)
def test_with_losses_every_trial_ends_and_all_work_is_accounted_for(
    seconds: list[float], conditions: Conditions
) -> None:
    found = simulate(seconds, conditions)

    assert len(found.ended) == len(seconds)
    assert all(end >= length * (1 - 1e-9) for end, length in zip(found.ended, seconds, strict=True))
    assert found.busy == pytest.approx(sum(seconds) + found.repeated + found.restarting)
    assert found.repeated <= found.losses * conditions.trials_per_gpu * conditions.checkpoint_seconds + 1e-6
    assert found.makespan >= found.bound * (1 - 1e-9)


@pytest.mark.parametrize("places", [1, 2])
def test_one_loss_costs_what_was_not_kept_the_absence_and_the_restart(places: int) -> None:
    """Also where a place beside it is free: that is lost with the GPU."""
    conditions = Conditions(
        *(1, places), losses_an_hour=1, checkpoint_seconds=60, restart_seconds=7, back_seconds=100, seed=1
    )
    draws = random.Random("gpu 1 0")
    lost, lost_again = draws.expovariate(1 / 3600), draws.expovariate(1 / 3600)
    length = lost + 50
    assert length < lost + lost_again  # or else there are two
    found = simulate([length], conditions)

    assert found.losses == 1
    assert found.repeated == pytest.approx(lost % 60)
    assert found.restarting == 7
    assert found.makespan == pytest.approx(lost + 100 + 7 + length - lost // 60 * 60)


def test_a_lost_trial_goes_on_before_those_that_have_not_begun() -> None:
    for seed in range(20):
        found = simulate([1000.0] * 6, Conditions(1, losses_an_hour=4, seed=seed))
        assert found.losses > 0
        assert list(found.ended) == sorted(found.ended)


def test_losses_of_one_gpu_are_those_of_its_seed_whatever_runs_beside_it() -> None:
    one = simulate([3600.0] * 4, Conditions(1, losses_an_hour=1, seed=3))

    assert one == simulate([3600.0] * 4, Conditions(1, losses_an_hour=1, seed=3))
    assert one != simulate([3600.0] * 4, Conditions(1, losses_an_hour=1, seed=4))


def test_a_rate_of_losses_is_met_in_the_long_run() -> None:
    found = simulate([3600.0] * 2000, Conditions(10, losses_an_hour=0.5, back_seconds=0, seed=5))
    gpu_hours = 10 * found.makespan / 3600

    assert found.losses / gpu_hours == pytest.approx(0.5, rel=0.15)


def test_a_trial_that_never_reaches_a_checkpoint_is_refused() -> None:
    with pytest.raises(ConfigError, match="lower rate"):
        simulate([100.0], Conditions(1, losses_an_hour=7200, back_seconds=0))


def test_stragglers_are_a_stated_share_and_the_same_on_every_cluster() -> None:
    conditions = Conditions(1, straggler_share=0.25, straggler_factor=3)
    found = lengthened([10.0] * 8, conditions)

    assert sorted(found) == [10.0] * 6 + [30.0] * 2
    assert found == lengthened([10.0] * 8, replace(conditions, gpus=64))
    assert any(found != lengthened([10.0] * 8, replace(conditions, seed=seed)) for seed in range(1, 9))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"gpus": 0}, "at least one GPU"),
        ({"trials_per_gpu": 0}, "one trial a GPU"),
        ({"straggler_share": 1.5}, "share of stragglers"),
        ({"straggler_factor": 0.5}, "factor of stragglers"),
        ({"losses_an_hour": -1}, "below 0"),
        ({"back_seconds": -1}, "below 0"),
        ({"checkpoint_seconds": 0}, "checkpoints"),
    ],
)
def test_conditions_that_make_no_sense_are_refused(settings: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Conditions(**{"gpus": 1, **settings})


@pytest.mark.parametrize("seconds", [[], [0.0], [1.0, -1.0]])
def test_trials_without_a_length_are_refused(seconds: list[float]) -> None:
    with pytest.raises(ConfigError, match="more than 0 s"):
        simulate(seconds, Conditions(1))

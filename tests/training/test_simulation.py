import math
import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_platform.config import load_profile
from cxr_platform.domain.strategies import STRATEGY_NAMES
from cxr_platform.errors import ConfigError
from cxr_platform.training.plan import planned_trials
from cxr_platform.training.simulation import (
    LISTED,
    LONGEST,
    OWN,
    Conditions,
    forecast,
    largest_saving,
    simulate,
    study_trials,
    with_stragglers,
)

PROFILE = load_profile("paper")
EQUAL = dict.fromkeys(STRATEGY_NAMES, 3600.0)
TRIALS = st.lists(st.floats(1, 1000), min_size=1, max_size=60)
PLACES = {"gpus": st.integers(1, 8), "trials_per_gpu": st.integers(1, 3)}
UNDISTURBED = st.builds(Conditions, **PLACES)
DISTURBED = st.builds(
    Conditions,
    **PLACES,
    losses_per_hour=st.floats(0.1, 20),
    checkpoint_seconds=st.floats(1, 100),
    restart_seconds=st.floats(0, 30),
    back_seconds=st.floats(0, 600),
    seed=st.integers(0, 1000),
)


@pytest.mark.parametrize(("trials", "gpus", "each"), [(80, 1, 1), (80, 8, 1), (80, 64, 1), (10, 3, 1), (10, 1, 4)])
def test_equal_trials_run_in_full_rounds(trials: int, gpus: int, each: int) -> None:
    result = simulate([60.0] * trials, Conditions(gpus, each))

    assert result.makespan == math.ceil(trials / (gpus * each)) * 60
    assert result.bound == max(60.0, trials * 60 / (gpus * each))
    assert result.ended.count(60.0) == min(trials, gpus * each)


def test_a_long_trial_costs_time_at_the_end_and_none_at_the_start() -> None:
    assert simulate([1, 1, 1, 1, 4], Conditions(2)).makespan == 6
    assert simulate([4, 1, 1, 1, 1], Conditions(2)).makespan == 4


def test_longest_first_is_not_always_optimal() -> None:
    result = simulate([3, 3, 2, 2, 2], Conditions(2))

    assert (result.makespan, result.bound) == (7, 6)
    assert result.ratio == pytest.approx(7 / 6)


def test_more_gpus_than_trials_do_not_help() -> None:
    assert simulate([5.0, 7.0], Conditions(512)).makespan == 7


@given(TRIALS, UNDISTURBED)
def test_no_order_ends_later_than_twice_the_bound(seconds: list[float], conditions: Conditions) -> None:
    """Graham 1969: at most 2 − 1/m times the best, of which the bound is less."""
    result = simulate(seconds, conditions)

    assert result.bound == max(sum(seconds) / conditions.places, *seconds)
    assert result.bound * (1 - 1e-9) <= result.makespan
    assert result.makespan <= (2 - 1 / conditions.places) * result.bound * (1 + 1e-9)


@given(TRIALS, UNDISTURBED)
def test_without_losses_no_work_is_repeated(seconds: list[float], conditions: Conditions) -> None:
    result = simulate(seconds, conditions)

    assert result.busy == pytest.approx(sum(seconds))
    assert (result.repeated, result.restarting, result.losses) == (0, 0, 0)


@settings(max_examples=60)
@given(TRIALS, DISTURBED)
def test_with_losses_every_trial_ends_and_all_work_is_accounted_for(
    seconds: list[float], conditions: Conditions
) -> None:
    result = simulate(seconds, conditions)

    assert len(result.ended) == len(seconds)
    assert all(end >= length * (1 - 1e-9) for end, length in zip(result.ended, seconds, strict=True))
    assert result.busy == pytest.approx(sum(seconds) + result.repeated + result.restarting)
    assert result.repeated <= result.losses * conditions.trials_per_gpu * conditions.checkpoint_seconds + 1e-6
    assert result.makespan >= result.bound * (1 - 1e-9)


@pytest.mark.parametrize("places", [1, 2])
def test_one_loss_costs_the_work_since_the_checkpoint_the_absence_and_the_restart(places: int) -> None:
    """Also if another place of the GPU is free: it is lost with the GPU."""
    conditions = Conditions(
        *(1, places), losses_per_hour=1, checkpoint_seconds=60, restart_seconds=7, back_seconds=100, seed=1
    )
    draws = random.Random("gpu 1 0")
    lost, lost_again = draws.expovariate(1 / 3600), draws.expovariate(1 / 3600)
    length = lost + 50
    assert length < lost + lost_again  # or else there are two
    result = simulate([length], conditions)

    assert result.losses == 1
    assert result.repeated == pytest.approx(lost % 60)
    assert result.restarting == 7
    assert result.makespan == pytest.approx(lost + 100 + 7 + length - lost // 60 * 60)


def test_a_lost_trial_continues_before_those_that_have_not_begun() -> None:
    for seed in range(20):
        result = simulate([1000.0] * 6, Conditions(1, losses_per_hour=4, seed=seed))
        assert result.losses > 0
        assert list(result.ended) == sorted(result.ended)


def test_losses_follow_from_the_seed() -> None:
    one = simulate([3600.0] * 4, Conditions(1, losses_per_hour=1, seed=3))

    assert one == simulate([3600.0] * 4, Conditions(1, losses_per_hour=1, seed=3))
    assert one != simulate([3600.0] * 4, Conditions(1, losses_per_hour=1, seed=4))


def test_losses_approach_their_rate() -> None:
    result = simulate([3600.0] * 2000, Conditions(10, losses_per_hour=0.5, back_seconds=0, seed=5))
    gpu_hours = 10 * result.makespan / 3600

    assert result.losses / gpu_hours == pytest.approx(0.5, rel=0.15)


def test_a_trial_that_never_reaches_a_checkpoint_is_refused() -> None:
    with pytest.raises(ConfigError, match="lower rate"):
        simulate([100.0], Conditions(1, losses_per_hour=7200, back_seconds=0))


def test_stragglers_are_a_stated_share_and_the_same_on_every_cluster() -> None:
    conditions = Conditions(1, straggler_share=0.25, straggler_factor=3)
    result = with_stragglers([10.0] * 8, conditions)

    assert sorted(result) == [10.0] * 6 + [30.0] * 2
    assert result == with_stragglers([10.0] * 8, replace(conditions, gpus=64))
    assert any(result != with_stragglers([10.0] * 8, replace(conditions, seed=seed)) for seed in range(1, 9))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"gpus": 0}, "at least one GPU"),
        ({"trials_per_gpu": 0}, "one trial per GPU"),
        ({"straggler_share": 1.5}, "share of stragglers"),
        ({"straggler_factor": 0.5}, "factor of stragglers"),
        ({"losses_per_hour": -1}, "below 0"),
        ({"back_seconds": -1}, "below 0"),
        ({"checkpoint_seconds": 0}, "checkpoints"),
    ],
)
def test_impossible_conditions_are_refused(settings: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Conditions(**{"gpus": 1, **settings})


@pytest.mark.parametrize("seconds", [[], [0.0], [1.0, -1.0]])
def test_trials_without_a_length_are_refused(seconds: list[float]) -> None:
    with pytest.raises(ConfigError, match="more than 0 s"):
        simulate(seconds, Conditions(1))


def test_the_trials_are_those_of_the_study_in_its_order() -> None:
    assert study_trials(PROFILE, STRATEGY_NAMES, 80) == planned_trials(PROFILE, STRATEGY_NAMES)


@pytest.mark.parametrize("count", [1, 7, 100, 10_000])
def test_any_number_of_trials_is_spread_over_the_strategies(count: int) -> None:
    result = Counter(key.strategy for key in study_trials(PROFILE, STRATEGY_NAMES, count))

    assert result.total() == count
    assert max(result.values()) - min(result.get(name, 0) for name in STRATEGY_NAMES) <= 1


def test_hours_and_shares_follow_from_the_simulation() -> None:
    own = forecast(study_trials(PROFILE, STRATEGY_NAMES, 12), EQUAL, Conditions(8), repeats=3)[0]

    assert (own.order, own.trials, own.gpus) == (OWN, 12, 8)
    assert (own.makespan_hours, own.bound_hours, own.gpu_hours) == (2.0, 1.5, 16.0)
    assert own.busy_share == 0.75
    assert own.ratio == pytest.approx(4 / 3)


def test_an_order_equal_to_that_of_the_study_has_no_forecast() -> None:
    trials = study_trials(PROFILE, STRATEGY_NAMES, 16)
    seconds = {key.strategy: 100.0 - n for n, key in enumerate(trials)}
    rows = forecast(trials, seconds, Conditions(2), repeats=1)

    assert [row.order for row in rows] == [OWN, LISTED]
    assert largest_saving(rows) is None


def test_longest_first_saves_time_if_the_relative_costs_are_wrong() -> None:
    trials = study_trials(PROFILE, ("off-the-shelf", "scratch"), 4)  # it takes scratch for the longer one
    rows = forecast(trials, {"off-the-shelf": 4 * 3600.0, "scratch": 3600.0}, Conditions(3), repeats=1)

    assert {row.order: row.makespan_hours for row in rows} == {OWN: 5.0, LONGEST: 4.0, LISTED: 4.0}
    assert largest_saving(rows) == pytest.approx(0.2)


def test_draws_are_averaged_and_the_same_every_time() -> None:
    trials = study_trials(PROFILE, ("scratch",), 8)
    one, two, mean = (
        forecast(trials, EQUAL, Conditions(2, losses_per_hour=0.5, seed=seed), repeats)[0]
        for seed, repeats in ((1, 1), (2, 1), (1, 2))
    )

    assert one.makespan_hours != two.makespan_hours
    assert mean.makespan_hours == pytest.approx((one.makespan_hours + two.makespan_hours) / 2)
    assert mean.losses == (one.losses + two.losses) / 2


def test_stragglers_are_the_same_trials_in_every_order() -> None:
    trials = study_trials(PROFILE, STRATEGY_NAMES, 80)
    seconds = {name: 100.0 + n % 3 for n, name in enumerate(STRATEGY_NAMES)}
    rows = forecast(trials, seconds, Conditions(1, straggler_share=0.1, straggler_factor=5), repeats=4)

    assert len(rows) == 3
    assert len({round(row.makespan_hours, 9) for row in rows}) == 1  # on one place all orders take the whole work

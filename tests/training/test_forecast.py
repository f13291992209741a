from collections import Counter

import pytest

from cxr_platform.config import load_profile
from cxr_platform.domain.strategies import STRATEGY_NAMES
from cxr_platform.training.forecast import LISTED, LONGEST, OWN, forecast, saving, study_trials
from cxr_platform.training.plan import planned_trials
from cxr_platform.training.simulation import Conditions

PROFILE = load_profile("paper")
EQUAL = dict.fromkeys(STRATEGY_NAMES, 3600.0)


def test_the_trials_are_those_of_the_study_in_its_order() -> None:
    assert study_trials(PROFILE, STRATEGY_NAMES, 80) == planned_trials(PROFILE, STRATEGY_NAMES)


@pytest.mark.parametrize("count", [1, 7, 100, 10_000])
def test_any_number_of_trials_is_spread_over_the_strategies(count: int) -> None:
    found = Counter(key.strategy for key in study_trials(PROFILE, STRATEGY_NAMES, count))

    assert found.total() == count
    assert max(found.values()) - min(found.get(name, 0) for name in STRATEGY_NAMES) <= 1


def test_hours_and_shares_follow_from_the_simulation() -> None:
    own = forecast(study_trials(PROFILE, STRATEGY_NAMES, 12), EQUAL, Conditions(8), repeats=3)[0]

    assert (own.order, own.trials, own.gpus) == (OWN, 12, 8)
    assert (own.makespan_hours, own.bound_hours, own.gpu_hours) == (2.0, 1.5, 16.0)
    assert own.busy_share == 0.75
    assert own.ratio == pytest.approx(4 / 3)


def test_an_order_that_is_the_study_s_is_not_told_twice() -> None:
    trials = study_trials(PROFILE, STRATEGY_NAMES, 16)
    seconds = {key.strategy: 100.0 - n for n, key in enumerate(trials)}
    rows = forecast(trials, seconds, Conditions(2), repeats=1)

    assert [row.order for row in rows] == [OWN, LISTED]
    assert saving(rows) is None


def test_longest_first_saves_where_the_study_is_wrong_about_its_strategies() -> None:
    trials = study_trials(PROFILE, ("off-the-shelf", "scratch"), 4)  # it takes scratch for the longer one
    rows = forecast(trials, {"off-the-shelf": 4 * 3600.0, "scratch": 3600.0}, Conditions(3), repeats=1)

    assert {row.order: row.makespan_hours for row in rows} == {OWN: 5.0, LONGEST: 4.0, LISTED: 4.0}
    assert saving(rows) == pytest.approx(0.2)


def test_draws_are_averaged_and_the_same_every_time() -> None:
    trials = study_trials(PROFILE, ("scratch",), 8)
    one, two, mean = (
        forecast(trials, EQUAL, Conditions(2, losses_an_hour=0.5, seed=seed), repeats)[0]
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

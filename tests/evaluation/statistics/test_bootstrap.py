import tracemalloc

import numpy as np
import pytest

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.statistics import bootstrap as bootstrap_module
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap, percentile_interval

PATIENTS = np.array(["b", "a", "a", "c", "c", "c"])
SIZES = np.resize([1, 1, 2, 3, 4, 7], 300)


def all_weights(bootstrap: Bootstrap) -> np.ndarray:
    return np.concatenate(list(bootstrap.weights()))


def test_all_images_of_a_patient_are_drawn_together():
    weights = all_weights(Bootstrap(PATIENTS, 200))

    assert weights.shape == (200, 6)
    assert (weights[:, 1] == weights[:, 2]).all()
    assert (weights[:, 3:] == weights[:, [3]]).all()
    assert (weights[:, 0] != weights[:, 1]).any()


def test_each_replicate_draws_as_many_patients_as_there_are():
    assert (all_weights(Bootstrap(PATIENTS, 200))[:, [0, 1, 3]].sum(axis=1) == 3).all()


def test_each_patient_is_drawn_once_on_average():
    weights = all_weights(Bootstrap(np.arange(50), 4000))

    assert weights.mean(axis=0) == pytest.approx(np.ones(50), abs=0.08)
    assert weights.var(axis=0) == pytest.approx(np.full(50, 0.98), abs=0.12)


def test_the_same_replicates_come_each_time_and_from_each_bootstrap_of_the_seed():
    bootstrap = Bootstrap(PATIENTS, 100, seed=7)

    assert (all_weights(bootstrap) == all_weights(bootstrap)).all()
    assert (all_weights(bootstrap) == all_weights(Bootstrap(PATIENTS, 100, seed=7))).all()
    assert (all_weights(bootstrap) != all_weights(Bootstrap(PATIENTS, 100, seed=8))).any()


def test_results_do_not_depend_on_the_chunk_size(monkeypatch):
    whole = all_weights(Bootstrap(PATIENTS, 100))
    monkeypatch.setattr(bootstrap_module, "CHUNK_CELLS", 7 * len(PATIENTS))
    chunks = list(Bootstrap(PATIENTS, 100).weights())

    assert len(chunks) == 15
    assert (np.concatenate(chunks) == whole).all()


def test_a_rate_has_the_percentiles_of_its_replicates():
    random = np.random.default_rng(1)
    patients, hits, among = random.integers(0, 60, 200), random.random(200) < 0.8, random.random(200) < 0.5
    weights = all_weights(Bootstrap(patients, seed=3))
    by_hand = 100 * (weights @ (hits & among)) / (weights @ among)

    interval = Bootstrap(patients, seed=3).rate(hits, among)

    assert interval.value == pytest.approx(100 * hits[among].mean())
    assert (interval.low, interval.high) == pytest.approx(tuple(np.percentile(by_hand, [2.5, 97.5])))
    assert not interval.ratio


def test_a_statistic_of_weights_gets_the_same_bounds_as_the_rate():
    random = np.random.default_rng(1)
    patients, hits = random.integers(0, 60, 200), random.random(200) < 0.8
    bootstrap = Bootstrap(patients)

    interval = percentile_interval(80.0, bootstrap.replicate(lambda w: 100 * (w @ hits) / w.sum(axis=1)))

    assert (interval.low, interval.high) == pytest.approx(
        (bootstrap.rate(hits).low, bootstrap.rate(hits).high), abs=1e-4
    )


def test_sums_that_float32_cannot_hold_are_exact_too():
    values = np.random.default_rng(1).normal(size=(300, 2)) + 1e6
    bootstrap = Bootstrap(np.arange(300) // 2, 50)

    assert bootstrap.totals(values) == pytest.approx(all_weights(bootstrap).astype(float) @ values, rel=1e-12)


def test_where_all_are_right_the_bounds_are_of_the_patients_and_not_of_the_images():
    ten_patients = np.arange(40) // 4

    interval = Bootstrap(ten_patients).rate(np.ones(40, dtype=bool))

    assert (interval.value, interval.high) == (100, 100)
    assert interval.low == pytest.approx(100 * 0.025 ** (1 / 10))  # Clopper and Pearson with 10 of 10
    nothing = Bootstrap(ten_patients).rate(np.zeros(40, dtype=bool))
    assert (nothing.value, nothing.low, nothing.high) == pytest.approx((0, 0, 100 - interval.low))


def test_a_rate_among_no_images_is_undefined():
    assert Bootstrap(PATIENTS).rate(np.ones(6, dtype=bool), np.zeros(6, dtype=bool)) == Interval(None)
    assert Bootstrap(np.array([])).rate(np.ones(0, dtype=bool)) == Interval(None)


def test_a_single_patient_gives_no_bounds():
    hits, one = np.array([True, False, True]), np.array(["a", "a", "a"])

    assert Bootstrap(one).rate(hits) == Interval(pytest.approx(200 / 3))
    assert Bootstrap(one).difference(hits, ~hits) == Interval(pytest.approx(100 / 3), signed=True)


def test_a_figure_that_never_moves_has_no_interval():
    assert percentile_interval(1.0, np.ones(100), ratio=True) == Interval(1.0, ratio=True)
    rounded = np.resize([100.0, np.nextafter(100.0, 101.0)], 100)
    assert percentile_interval(100.0, rounded) == Interval(100.0)


def test_a_statistic_that_is_mostly_undefined_has_no_interval():
    few, many = np.full((2, 100), np.nan)
    few[:40], many[:60] = np.arange(40), np.arange(60)

    assert percentile_interval(1.0, few) == Interval(1.0)
    assert percentile_interval(1.0, many).high == pytest.approx(57.525)


def test_a_difference_is_paired():
    random = np.random.default_rng(5)
    first = random.random(600) < 0.7
    second = np.where(random.random(600) < 0.05, ~first, first)  # the same but for one image in twenty
    bootstrap = Bootstrap(np.arange(600))
    alike = bootstrap.difference(first, second)
    apart = bootstrap.difference(first, random.permutation(second))

    assert alike.signed
    assert alike.value == pytest.approx(100 * (first.mean() - second.mean()))
    assert (alike.high - alike.low) < 0.5 * (apart.high - apart.low)
    assert bootstrap.difference(first, first) == Interval(0, 0, 0, signed=True)


def test_a_hundred_thousand_images_need_less_than_a_gigabyte():
    patients = np.random.default_rng(0).integers(0, 30_000, 112_000)
    bootstrap = Bootstrap(patients, replicates=500)
    tracemalloc.start()
    bootstrap.replicate(lambda w: w.sum(axis=1) / 112_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 100e6  # the weights of all replicates at once would be 224 MB


def covered(simulations: int, by_patient: bool) -> float:
    """Share of studies of 300 patients whose interval holds the accuracy that their images were drawn with.

    Patients have one to seven images and an ease of their own: Beta(2.55, 0.45), mean 0.85, correlation of images 0.25.
    """
    patients = np.repeat(np.arange(len(SIZES)), SIZES)
    random, hit = np.random.default_rng(2020), 0
    for i in range(simulations):
        right = random.random(len(patients)) < random.beta(2.55, 0.45, len(SIZES))[patients]
        interval = Bootstrap(patients if by_patient else np.arange(len(patients)), seed=i // 50).rate(right)
        hit += interval.low <= 85 <= interval.high
    return hit / simulations


def test_the_interval_holds_the_truth_in_93_to_97_percent_of_500_simulated_studies():
    assert 0.93 <= covered(500, by_patient=True) <= 0.97


def test_resampling_single_images_gives_intervals_that_are_too_narrow():
    assert covered(100, by_patient=False) < 0.92

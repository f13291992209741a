import numpy as np
import pytest
from scipy.stats import binom, permutation_test
from statsmodels.stats.multitest import multipletests

from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from cxr_platform.evaluation.statistics.comparison import compare_pairs, holm, picked_accuracy, sign_test
from pipelines.benchmarks.statistics import (
    SPREADS,
    WITHIN,
    draw_correct,
    patients,
    sign_test_sizes,
    simulate_pairs,
    simulate_pick,
)


def standard_error(percentage: float, studies: int) -> float:
    """Standard error, in points, of a percentage that is counted in so many simulated studies."""
    return float(np.sqrt(percentage * (100 - percentage) / studies))


def test_with_one_image_per_group_the_sign_test_is_mcnemar_s_with_half_the_observed_probability():
    gaps = np.array([1] * 12 + [-1] * 3 + [0] * 20)[:, None]

    assert sign_test(gaps) == pytest.approx(2 * binom.cdf(3, 15, 0.5) - binom.pmf(3, 15, 0.5))


def test_the_sign_test_is_the_permutation_test_of_the_balances_of_groups():
    gaps = np.array([4, 2, 1, 1, -1, 3, 0, 2, -2, 1])
    exact = permutation_test(
        (gaps, np.zeros_like(gaps)), lambda a, b: (a - b).sum(), permutation_type="samples", n_resamples=np.inf
    )
    signs = exact.null_distribution
    observed = (np.abs(signs) == abs(gaps.sum())).mean()

    assert sign_test(gaps[:, None]) == pytest.approx(exact.pvalue - observed / 2)


def test_the_sign_test_of_equal_balances_is_one():
    assert sign_test(np.array([[1, 0], [-1, 0], [0, 0]])) == pytest.approx([1, 1])


@pytest.mark.parametrize("within", WITHIN[::2])
def test_the_sign_test_is_wrong_in_four_to_six_percent_of_studies_however_alike_a_patient_s_images_are(within):
    by_image, by_patient = sign_test_sizes(np.random.default_rng(3), patients(150), within, studies=2000)

    assert 4 <= by_patient <= 6
    assert by_image > 20 or within < 1


def test_of_eight_equal_strategies_the_best_differs_in_three_to_six_percent_of_studies():
    random, group, studies = np.random.default_rng(4), patients(80), 800
    pairs = simulate_pairs(random, group, within=0.5, studies=studies, replicates=200)
    lowest, highest = 3 - 2 * standard_error(3, studies), 6 + 2 * standard_error(6, studies)

    assert lowest <= pairs.all_pairs <= highest
    # Corrected for the pairs with the winner only, about 12 % are wrong: this test would fail.
    assert pairs.winner_only > highest + 2 * standard_error(highest, studies)
    # All 28 intervals at once; with 95 % for each by itself, it would be about 40 %.
    assert 90 <= pairs.coverage <= 98


@pytest.mark.parametrize("spread", SPREADS[::2])
def test_the_corrected_accuracy_of_the_best_is_right_within_a_fifth_of_a_point(spread):
    pick = simulate_pick(np.random.default_rng(5), patients(250), spread, studies=300, replicates=200)

    assert abs(pick.corrected) < 0.2
    assert pick.measured > 0.8
    # 95 %, less two standard errors of 300 studies; the uncorrected interval holds in about 80 %.
    assert pick.coverage > 95 - 2 * standard_error(95, 300)


def test_holm_s_correction_is_that_of_statsmodels():
    p_values = np.array([0.04, 0.01, 0.03, 0.8, 0.01])

    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


def test_strategies_that_are_right_on_the_same_images_do_not_differ():
    right = np.repeat(np.arange(40)[:, None] % 3 > 0, 2, axis=1)
    pairs = compare_pairs(right, Bootstrap(np.arange(40)))

    assert (pairs.difference[0], pairs.margin[0], pairs.p_adjusted[0]) == (0, 0, 1)


def test_a_pair_can_be_read_in_both_directions():
    right = draw_correct(np.random.default_rng(0), patients(60), (0.9, 0.6), within=0.5)[:, 0]
    pairs = compare_pairs(right, Bootstrap(patients(60)))
    forth, back = pairs.interval(0), pairs.interval(0, reverse=True)

    assert forth.value == pytest.approx(100 * (right[:, 0].mean() - right[:, 1].mean()))
    assert (back.value, back.low, back.high) == (-forth.value, -forth.high, -forth.low)
    assert forth.excludes_zero


def test_a_single_group_has_differences_without_intervals():
    right = np.array([[True, False], [True, True]])

    assert compare_pairs(right, Bootstrap(np.zeros(2))).interval(0).low is None
    assert picked_accuracy(right, 0, Bootstrap(np.zeros(2))).optimism == 0


def test_a_clear_winner_is_hardly_corrected():
    right = draw_correct(np.random.default_rng(0), patients(100), (0.95, 0.6, 0.6), within=0.5)[:, 0]
    picked = picked_accuracy(right, 0, Bootstrap(patients(100)))

    assert picked.optimism < 0.1
    assert picked.corrected.high - picked.corrected.low == pytest.approx(picked.measured.high - picked.measured.low)

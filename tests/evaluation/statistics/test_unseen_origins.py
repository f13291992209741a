import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cxr_platform.evaluation.predictions import Array
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from cxr_platform.evaluation.statistics.unseen_origins import PairScores, mean_difference, unseen_origins

GROUPS = np.array([f"patient {n // 2}" for n in range(240)])
BOOTSTRAP = Bootstrap(GROUPS, replicates=200, seed=1)


def drawn_pair(rows: Array, gap: float, seed: int) -> PairScores:
    """Scores of images of which the first half have Covid19 and scores higher by `gap`."""
    positive = np.arange(len(rows)) < len(rows) // 2
    return PairScores(rows, np.random.default_rng(seed).normal(size=len(rows)) + gap * positive, positive)


PAIRS = {
    ("a", "b"): drawn_pair(np.arange(0, 120), 2.0, 1),
    ("a", "c"): drawn_pair(np.arange(60, 200), 0.3, 2),
    ("c", "b"): drawn_pair(np.arange(140, 240), 1.0, 3),
}


def test_each_pair_has_the_area_of_its_own_images() -> None:
    expected = {pair: roc_auc_score(each.positive, each.scores) for pair, each in PAIRS.items()}
    result = unseen_origins(PAIRS, BOOTSTRAP)
    assert {pair: auc.value for pair, auc in result.pairs} == pytest.approx(expected)
    assert result.mean.value == pytest.approx(np.mean(list(expected.values())))
    assert result.worst.value == pytest.approx(min(expected.values()))
    assert result.worst_pair == min(expected, key=lambda pair: expected[pair]) == ("a", "c")


def test_intervals_hold_the_value_and_that_of_the_mean_is_narrower_than_of_a_pair() -> None:
    result = unseen_origins(PAIRS, BOOTSTRAP)
    widths = []
    for auc in (result.mean, *(auc for _, auc in result.pairs)):
        assert auc.value is not None
        assert auc.low is not None
        assert auc.high is not None
        assert auc.low < auc.value < auc.high
        widths.append(auc.high - auc.low)
    assert widths[0] < max(widths[1:])


def test_the_difference_is_of_the_same_pairs_and_zero_to_itself() -> None:
    part = {pair: PAIRS[pair] for pair in list(PAIRS)[:2]}
    same = mean_difference(part, PAIRS, BOOTSTRAP)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    better = {pair: PairScores(each.rows, each.scores + each.positive, each.positive) for pair, each in part.items()}
    assert mean_difference(better, PAIRS, BOOTSTRAP).excludes_zero


def test_there_is_no_difference_without_a_shared_pair() -> None:
    parts = ({pair: PAIRS[pair]} for pair in list(PAIRS)[:2])
    assert mean_difference(*parts, BOOTSTRAP).value is None

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from cxr_platform.evaluation.statistics.ranks import Ranked
from cxr_platform.evaluation.statistics.resampling import Bootstrap


@pytest.mark.parametrize("decimals", [1, 2, 8])
def test_areas_are_those_of_scikit_learn_with_and_without_weights(decimals):
    random = np.random.default_rng(decimals)
    positive = random.random(300) < 0.2
    scores = np.round(np.clip(random.normal(0.4 + 0.2 * positive, 0.2), 0, 1), decimals)
    weights = next(Bootstrap(np.arange(300) // 3, replicates=20).weights())
    weights[0] = 1

    ours = Ranked(scores, positive).areas(weights)

    for column, area in enumerate((roc_auc_score, average_precision_score)):
        theirs = [area(positive, scores, sample_weight=w) for w in weights]
        assert ours[:, column] == pytest.approx(theirs, abs=1e-9)


def test_level_scores_are_worth_a_coin():
    areas = Ranked(np.full(10, 0.5), np.arange(10) < 3).areas(np.ones((1, 10)))

    assert areas.tolist() == [[0.5, pytest.approx(0.3)]]


def test_areas_without_images_of_one_side_are_undefined():
    weights = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0]])
    areas = Ranked(np.array([0.9, 0.8, 0.2, 0.1]), np.array([True, True, False, False])).areas(weights)

    assert np.isnan(areas[:2]).all()
    assert areas[2].tolist() == [1, 1]
    assert np.isnan(Ranked(np.ones(2), np.zeros(2, dtype=bool)).areas(np.ones((1, 2)))).all()

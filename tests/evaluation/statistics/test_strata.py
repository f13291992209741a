import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from cxr_platform.evaluation.statistics.strata import SEPARATES, variable_auc


def members(values: np.ndarray) -> list[np.ndarray]:
    return [values == value for value in np.unique(values)]


def test_a_variable_without_meaning_separates_in_few_samples():
    """Ranked by the share among the same images, it is above chance with its whole interval in most of them."""
    random, separates, values, in_sample = np.random.default_rng(0), 0, [], []
    for _ in range(60):
        positive, value = np.arange(50) % 2 == 0, random.integers(0, 8, 50)
        area = variable_auc(members(value), positive, Bootstrap(np.arange(50), replicates=200))
        separates += area.value >= SEPARATES or area.low > 0.5
        values.append(area.value)
        in_sample.append(roc_auc_score(positive, [positive[value == v].mean() for v in value]))
    assert separates <= 6
    assert np.mean(values) == pytest.approx(0.5, abs=0.05)
    assert np.mean(in_sample) > 0.6


def test_a_variable_that_gives_the_class_away_ranks_as_its_shares_do():
    random = np.random.default_rng(1)
    positive = np.arange(400) % 2 == 0
    value = np.where(random.random(400) < 0.8, positive, ~positive)
    area = variable_auc(members(value), positive, Bootstrap(np.arange(400)))

    assert area.value == pytest.approx(0.8, abs=0.03)
    assert 0.7 < area.low < area.value < area.high


def test_images_of_one_patient_say_nothing_of_each_other():
    """Each patient has a value of his own, which gives his class away on his images only."""
    group = np.repeat(np.arange(60), 5)
    area = variable_auc(members(group), group % 2 == 0, Bootstrap(group, replicates=200))

    assert area.value == 0.5

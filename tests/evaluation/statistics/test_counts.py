import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, recall_score

from cxr_platform.evaluation.statistics.counts import COUNTED, cells, from_matrices
from cxr_platform.evaluation.statistics.resampling import Bootstrap
from tests.evaluation.statistics.made_up import drawn_labels


def of_scikit_learn(label: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> list[float]:
    drawn = weights > 0
    label, predicted, weights = label[drawn], predicted[drawn], weights[drawn]
    ill, said = label == 0, predicted == 0
    return [
        100 * accuracy_score(label, predicted, sample_weight=weights),
        100 * recall_score(label, predicted, labels=np.unique(label), average="macro", sample_weight=weights),
        f1_score(label, predicted, labels=np.unique(label), average="macro", sample_weight=weights),
        100 * accuracy_score(ill, said, sample_weight=weights),
        100 * recall_score(ill, said, sample_weight=weights),
        100 * recall_score(~ill, ~said, sample_weight=weights),
    ]


@pytest.mark.parametrize("classes", [7, 4])
def test_weighted_measures_are_those_of_scikit_learn(classes):
    random = np.random.default_rng(classes)
    label = drawn_labels(200) % classes
    predicted = np.where(random.random(200) < 0.6, label, random.integers(0, 7, 200))
    weights = next(Bootstrap(np.arange(200) // 2, replicates=20).weights())
    weights[0] = 1

    ours = from_matrices((weights @ cells(label, predicted)).reshape(-1, 7, 7))

    assert ours.shape == (20, len(COUNTED))
    assert ours == pytest.approx(np.array([of_scikit_learn(label, predicted, w) for w in weights]), abs=1e-9)


def test_balanced_accuracy_is_scikit_learns():
    label, predicted = drawn_labels(100), drawn_labels(100, seed=1)
    ours = from_matrices(cells(label, predicted).sum(axis=0).reshape(1, 7, 7))

    assert ours[0, COUNTED.index("balanced_accuracy")] == pytest.approx(100 * balanced_accuracy_score(label, predicted))


def test_without_images_of_a_kind_the_rate_is_undefined_and_not_0():
    no_covid = cells(np.array([1, 2]), np.array([1, 3])).sum(axis=0).reshape(1, 7, 7)
    nothing = np.zeros((1, 7, 7))

    assert np.isnan(from_matrices(no_covid)[0]).tolist() == [False] * 4 + [True, False]
    assert np.isnan(from_matrices(nothing)).all()

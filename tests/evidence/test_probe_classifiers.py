import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.evidence.probe_classifiers import (
    class_probabilities,
    fitted,
    on_features,
    on_metadata,
    out_of_fold_answers,
    out_of_fold_probabilities,
    probability_columns,
)

LABELS = np.array([0, 6] * 20)
FOLDS = np.arange(40) // 2 % 4


def test_an_image_is_predicted_by_a_classifier_fitted_without_it() -> None:
    names = np.arange(40.0)[:, None]  # by its own number a tree knows each image that it has seen, and only those
    chance = np.random.default_rng(0).permutation(LABELS)
    seen = fitted(DecisionTreeClassifier, names, chance).predict(names)
    unseen = out_of_fold_probabilities(DecisionTreeClassifier, names, chance, FOLDS).argmax(axis=1)
    assert (seen == chance).all()
    assert (unseen == chance).mean() < 0.8


def test_a_class_in_one_fold_only_has_probability_0_there() -> None:
    labels = np.where(FOLDS == 0, 3, LABELS)
    values = np.random.default_rng(0).normal(size=(40, 4))
    probabilities = out_of_fold_probabilities(on_features, values, labels, FOLDS)
    assert (probabilities[FOLDS == 0, 3] == 0).all()
    assert (probabilities[FOLDS != 0, 3] > 0).all()
    assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("make", [on_features, lambda: on_metadata(1)])
def test_both_classifiers_learn_separable_values(make: object) -> None:
    values = np.stack([LABELS + 0.0, np.zeros(40)], axis=1)
    answers = out_of_fold_answers(make, values, np.where(LABELS == 0, "east", "west"), FOLDS)  # type: ignore[arg-type]
    assert (answers == np.where(LABELS == 0, "east", "west")).all()


def test_a_single_answer_is_always_given() -> None:
    model = fitted(on_features, np.zeros((4, 2)), np.full(4, 5))
    assert class_probabilities(model, np.ones((3, 2)))[:, 5].tolist() == [1, 1, 1]


def test_probabilities_become_one_column_per_class() -> None:
    columns = probability_columns(np.eye(7, dtype="float32"))
    assert tuple(columns) == PROBABILITY_COLUMNS
    assert columns["p_Covid19"].to_pylist() == [1, 0, 0, 0, 0, 0, 0]

"""Thresholds are MAPIE's, one image per patient; the coverage is reached on patients that did not choose them."""

from dataclasses import replace

import numpy as np
import pytest
from mapie.classification import SplitConformalClassifier
from sklearn.base import BaseEstimator, ClassifierMixin

from cxr_platform.domain.prediction_set import set_members
from cxr_platform.evaluation.predictions import Predictions
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from cxr_platform.evaluation.statistics.prediction_sets import class_thresholds, least_patients, prediction_sets
from cxr_platform.labels import CLASSES

SEVEN = len(CLASSES)


class Stored(ClassifierMixin, BaseEstimator):
    """A fitted classifier whose input are the probabilities."""

    def __init__(self) -> None:
        self.classes_, self.n_features_in_ = np.arange(SEVEN), SEVEN

    def fit(self, _x, _y):
        return self

    def predict_proba(self, x):
        return x

    def predict(self, x):
        return x.argmax(axis=1)


def drawn_probabilities(label, seed, certainty=2.0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(label), SEVEN))
    logits[np.arange(len(label)), label] += certainty
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True)


def made_predictions(label, group, fold=None, seed=0):
    label, group = np.asarray(label), np.asarray(group)
    fold = group % 4 if fold is None else fold
    names = np.array([f"g{g:05d}" for g in group], dtype=object)
    ids = np.array([f"i{i:05d}" for i in range(len(label))], dtype=object)
    return Predictions(ids, names, ids, label, fold, 4, {"scratch": drawn_probabilities(label, seed)})


def sets_of(predictions, coverage=0.9):
    return prediction_sets(predictions, "scratch", Bootstrap(predictions.group_id, replicates=200), coverage)


def test_with_one_image_per_patient_the_sets_are_those_of_mapie():
    label = np.arange(700) % SEVEN
    probability, fresh = drawn_probabilities(label, 1), drawn_probabilities(label, 2)
    thresholds = [part.threshold for part in class_thresholds(probability, label, np.arange(700))]
    ours = set_members(fresh, thresholds)
    for position in range(SEVEN):
        mapie = SplitConformalClassifier(Stored(), confidence_level=0.9, prefit=True, conformity_score="lac")
        with pytest.warns(UserWarning, match="less labels"):
            mapie.conformalize(probability[label == position], label[label == position])
        np.testing.assert_array_equal(ours[:, position], mapie.predict_set(fresh)[1][:, position, 0])


def test_a_patient_with_many_images_counts_once():
    label = np.zeros(40, dtype=int)
    group = np.r_[np.arange(20), np.full(20, 7)]
    chosen = class_thresholds(drawn_probabilities(label, 3), label, group)[0]
    assert chosen.patients == 20


@pytest.mark.parametrize(("patients", "stated"), [(9, False), (10, True)])
def test_fewer_patients_than_one_over_alpha_give_no_threshold(patients, stated):
    label = np.zeros(patients, dtype=int)
    chosen = class_thresholds(drawn_probabilities(label, 4), label, np.arange(patients))
    assert least_patients(0.9) == 10
    assert (chosen[0].threshold is not None) is stated
    assert all(part == replace(part, patients=0, threshold=None) for part in chosen[1:])


@pytest.mark.parametrize(("coverage", "needed"), [(0.9, 10), (0.95, 20), (0.8, 5), (0.99, 100)])
def test_the_patients_needed_are_one_over_the_share_not_covered(coverage, needed):
    assert least_patients(coverage) == needed


def test_the_coverage_of_every_class_on_other_patients_is_the_stated_one():
    """300 patients a class: the coverage has a standard error of about 2 points."""
    group = np.arange(7 * 300)
    sets = sets_of(made_predictions(group % SEVEN, group // SEVEN))
    for part in sets.classes:
        assert part.patients == 300
        assert part.coverage.value == pytest.approx(90, abs=7)
        assert part.coverage.low < part.coverage.value < part.coverage.high
    assert np.mean([part.coverage.value for part in sets.classes]) == pytest.approx(90, abs=3)
    assert sets.mean_size > 1


def test_a_higher_coverage_makes_larger_sets():
    group = np.arange(7 * 200)
    predictions = made_predictions(group % SEVEN, group // SEVEN)
    assert sets_of(predictions, 0.95).mean_size > sets_of(predictions, 0.8).mean_size


def test_no_patient_calibrates_the_thresholds_that_judge_them():
    """Patients with images in every fold, as in the protocol “paper”, leave no one to calibrate on."""
    group = np.repeat(np.arange(100), 4)
    sets = sets_of(made_predictions(group % SEVEN, group, fold=np.tile(np.arange(4), 100)))
    assert sets.mean_size is None
    assert all(part.threshold is not None and part.coverage.value is None for part in sets.classes)


def test_a_rare_class_is_in_no_set_and_has_no_coverage():
    label = np.r_[np.arange(300) % 6, np.full(9, 6)]
    sets = sets_of(made_predictions(label, np.arange(309)))
    assert sets.not_stated == [CLASSES[6]]
    assert sets.classes[6].coverage.value is None
    assert sets.classes[6].patients == 9


def test_a_class_that_cannot_be_tested_in_every_fold_is_in_no_set():
    """12 patients are enough for a threshold, the 9 outside of each of 4 folds are not."""
    label = np.r_[np.arange(300) % 6, np.full(12, 6)]
    predictions = made_predictions(label, np.arange(312))
    sets = sets_of(predictions)
    assert sets.not_stated == [CLASSES[6]]
    assert sets.classes[6].patients == 12
    assert sets.classes[6].coverage.value is None
    one_fold_has_none = predictions.fold.copy()
    one_fold_has_none[300:] = np.arange(12) % 3  # the fourth fold leaves all 12, the others 8
    partly = sets_of(replace(predictions, fold=one_fold_has_none))
    assert partly.not_stated == [CLASSES[6]]
    assert partly.mean_size == pytest.approx(sets.mean_size, abs=0.2)


def test_each_patient_weighs_the_same_in_the_coverage():
    """One patient with 300 images that no set covers lowers the coverage by one patient of 101 only."""
    group, label = np.r_[np.arange(100), np.full(300, 100)], np.zeros(400, dtype=int)
    predictions = made_predictions(label, group)
    probability = predictions.probability["scratch"].copy()
    probability[100:] = np.r_[1e-6, np.full(6, (1 - 1e-6) / 6)]
    sets = sets_of(replace(predictions, probability={"scratch": probability}))
    assert sets.classes[0].coverage.value > 80

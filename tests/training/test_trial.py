import dataclasses

import numpy as np
import pytest

from cxr_platform.config import ScheduleConfig
from cxr_platform.models.strategies import strategy_by_name
from cxr_platform.training.inputs import FilmInputs
from cxr_platform.training.trial import (
    TrialData,
    Workbench,
    class_weights,
    learning_rates,
    run_trial,
    trial_seed,
)
from tests.training.backend_probe import separable_features
from tests.training.builders import random_imagenet, tiny_data, tiny_profile

OFF_THE_SHELF = strategy_by_name("off-the-shelf")
SCRATCH = strategy_by_name("scratch")


@pytest.fixture(scope="module")
def bench() -> Workbench:
    profile = tiny_profile(**{"training.off_the_shelf.epochs": 4, "training.scratch.epochs": 1})
    return Workbench(profile.model, profile.training, random_imagenet(profile))


@pytest.fixture
def features() -> TrialData:
    data = tiny_data()
    return TrialData(separable_features(data), data.labels, data.rows_outside(0), data.rows_of_fold(0))


def test_the_same_trial_gives_the_same_result_and_another_seed_another(bench: Workbench, features: TrialData) -> None:
    first, again = (run_trial(bench, OFF_THE_SHELF, features, seed=1) for _ in range(2))
    assert (first.probabilities == again.probabilities).all()
    assert (run_trial(bench, OFF_THE_SHELF, features, seed=2).probabilities != first.probabilities).any()


def test_a_trial_learns_what_can_be_learned(bench: Workbench, features: TrialData) -> None:
    result = run_trial(bench, OFF_THE_SHELF, features, seed=1)
    assert (result.probabilities.argmax(1) == features.labels[features.test]).mean() > 0.9
    assert np.allclose(result.probabilities.sum(1), 1, atol=1e-5)
    assert [epoch.epoch for epoch in result.history] == [1, 2, 3, 4]


def test_the_labels_of_the_test_fold_have_no_influence(bench: Workbench, features: TrialData) -> None:
    honest = run_trial(bench, OFF_THE_SHELF, features, seed=1)
    scrambled = features.labels.copy()
    scrambled[features.test] = 0
    blind = run_trial(bench, OFF_THE_SHELF, dataclasses.replace(features, labels=scrambled), seed=1)
    assert (honest.probabilities == blind.probabilities).all()


def test_folds_share_a_compiled_step_and_do_not_influence_each_other(bench: Workbench, features: TrialData) -> None:
    other = dataclasses.replace(features, train=features.test, test=features.train)
    alone = run_trial(bench, OFF_THE_SHELF, features, seed=1).probabilities
    run_trial(bench, OFF_THE_SHELF, other, seed=8)
    assert (run_trial(bench, OFF_THE_SHELF, features, seed=1).probabilities == alone).all()
    _, step = bench.set_up(OFF_THE_SHELF, seed=1)
    assert step._train.experimental_get_tracing_count() == 1  # type: ignore[attr-defined]


def test_from_scratch_the_moving_statistics_keep_up_with_a_short_training() -> None:
    """With Keras' momentum of 0.999 inference would still answer one class after so few steps."""
    profile = tiny_profile(
        **{"training.scratch": {"epochs": 12, "learning_rate": 0.003}, "augmentation.shift_fraction": 0.0}
    )
    data = tiny_data(112)
    inputs = FilmInputs(data.films, profile.augmentation)
    rows = TrialData(inputs, data.labels, data.rows_outside(0), data.rows_of_fold(0))
    result = run_trial(Workbench(profile.model, profile.training), SCRATCH, rows, seed=3)
    predicted = result.probabilities.argmax(1)
    assert (predicted == data.labels[rows.test]).mean() > 0.5
    assert len(set(predicted)) > 3


def test_a_loss_that_is_no_number_stops_the_trial(features: TrialData) -> None:
    profile = tiny_profile(**{"training.off_the_shelf.learning_rate": 1e30})
    bench = Workbench(profile.model, profile.training, random_imagenet(profile))
    with pytest.raises(FloatingPointError, match="epoch 1: lower the learning rate"):
        run_trial(bench, OFF_THE_SHELF, features, seed=1)


def test_learning_rates_rise_to_the_peak_and_fall_to_zero() -> None:
    rates = learning_rates(ScheduleConfig(epochs=1, learning_rate=0.5), steps=100, warmup_fraction=0.1)
    assert len(rates) == 100
    assert rates.argmax() == 9
    assert rates.max() == 0.5
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    assert (np.diff(rates[:10]) > 0).all()
    assert (np.diff(rates[10:]) < 0).all()


def test_balanced_weights_are_inverse_to_the_class_counts_and_absent_classes_do_not_divide_by_zero() -> None:
    labels = np.array([0] * 6 + [1] * 2)
    weights = class_weights(labels, "balanced")
    assert weights[1] == pytest.approx(3 * weights[0])
    assert np.isfinite(weights).all()
    assert weights[labels].mean() == pytest.approx(1)
    assert (class_weights(labels, "none") == 1).all()


def test_seeds_differ_by_fold_and_by_study() -> None:
    assert len({trial_seed(seed, fold) for seed in range(5) for fold in range(10)}) == 50

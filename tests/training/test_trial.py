import dataclasses
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cxr_platform.config import ScheduleConfig
from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.labels import CLASSES
from cxr_platform.models.mobilenet import build_network
from cxr_platform.training import trial
from cxr_platform.training.inputs import ImageInputs, Index
from cxr_platform.training.step import Placement, Step, Steps
from cxr_platform.training.trial import (
    Epoch,
    Position,
    TrialData,
    Workbench,
    class_weights,
    learning_rates,
    loss_fall,
    run_trial,
    train,
    training_rng,
    trial_seed,
)
from tests.training.backend_probe import numpy_imagenet, separable_features
from tests.training.builders import SIDE, random_imagenet, tiny_data, tiny_profile

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


def test_a_trial_learns_separable_classes(bench: Workbench, features: TrialData) -> None:
    result = run_trial(bench, OFF_THE_SHELF, features, seed=1)
    assert (result.probabilities.argmax(1) == features.labels[features.test]).mean() > 0.9
    assert np.allclose(result.probabilities.sum(1), 1, atol=1e-5)
    assert [epoch.epoch for epoch in result.history] == [1, 2, 3, 4]


def test_inputs_that_stay_on_the_host_give_the_same_result(bench: Workbench, features: TrialData) -> None:
    on_host = dataclasses.replace(bench, placement=Placement(resident_bytes=0), _kept={})
    expected = run_trial(bench, OFF_THE_SHELF, features, seed=1)
    result = run_trial(on_host, OFF_THE_SHELF, features, seed=1)
    assert (result.probabilities == expected.probabilities).all()
    assert [epoch.loss for epoch in result.history] == [epoch.loss for epoch in expected.history]


def test_the_fall_of_the_loss_compares_the_last_two_quarters() -> None:
    def history(*losses: float) -> list[Epoch]:
        return [Epoch(i + 1, len(losses), loss, 0.5, 0.1, 1.0) for i, loss in enumerate(losses)]

    assert loss_fall(history(3, 3, 2, 2, 1.5, 1.3, 1.1, 1.1)) == pytest.approx(0.3)
    assert loss_fall(history(3, 2.5, 1)) == 1.5
    assert loss_fall(history(3)) == 0
    assert loss_fall(history(9, 9, 9, 9, 2, 2, 2, 2), early=4) == 0, "the loss of larger images may be lower"


def test_a_resumed_training_ends_with_the_weights_of_an_uninterrupted_one(features: TrialData) -> None:
    """Bit for bit, in networks built anew: weights, moments, moving statistics, dropout, order of images and rates."""
    profile = tiny_profile(**{"training.off_the_shelf.epochs": 4, "model.dropout": 0.5})
    schedule = profile.training.schedule(OFF_THE_SHELF.family)

    def start() -> tuple[Step, np.random.Generator]:
        bench = Workbench(profile.model, profile.training, numpy_imagenet())
        return bench.set_up(OFF_THE_SHELF, seed=1)[1], training_rng(1)

    step, rng = start()
    whole, states = [], []
    for epoch in train(step, profile.training, schedule, features, rng):
        whole.append(epoch)
        states.append((step.state(), rng.bit_generator.state))
    again, rng = start()
    again.restore(states[1][0])
    rng.bit_generator.state = json.loads(json.dumps(states[1][1]))
    rest = list(train(again, profile.training, schedule, features, rng, done=2))
    assert [(e.epoch, e.loss, e.learning_rate) for e in rest] == [(e.epoch, e.loss, e.learning_rate) for e in whole[2:]]
    final = again.state()
    assert final.keys() == states[3][0].keys()
    assert all((final[name] == array).all() for name, array in states[3][0].items())
    assert any((states[1][0][name] != array).any() for name, array in states[3][0].items())


def test_a_resumed_trial_predicts_what_an_uninterrupted_one_does(bench: Workbench, features: TrialData) -> None:
    positions: list[Position] = []
    whole = run_trial(bench, OFF_THE_SHELF, features, 1, lambda _, position: positions.append(position()))
    rest = run_trial(bench, OFF_THE_SHELF, features, 1, start=positions[1])
    assert (rest.probabilities == whole.probabilities).all()
    assert [epoch.loss for epoch in rest.history] == [epoch.loss for epoch in whole.history]
    assert len(positions) == len(whole.history)


class RecordedStep:
    """A step without a network, whose state is the number of training steps so far and the side of each."""

    def __init__(self, side: int, calls: list[tuple[int, int]]) -> None:
        self.side, self.calls, self.steps = side, calls, 0

    def load(self, inputs: ImageInputs) -> bool:
        assert inputs.arrays[0].shape[1:] == (self.side, self.side)
        return True

    def train(self, steps: Steps) -> tuple[np.ndarray, np.ndarray]:
        self.calls.append((self.side, self.steps))
        self.steps += len(steps.labels)
        return np.ones(len(steps.labels)), np.zeros(len(steps.labels))

    def logits(self, index: Index) -> np.ndarray:
        return np.zeros((*index[0].shape, len(CLASSES)), "float32")

    def state(self) -> dict[str, np.ndarray]:
        return {"trained/0000": np.array(self.steps)}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self.steps = int(state["trained/0000"])

    def sync(self) -> None:
        pass


def test_a_trial_begins_with_smaller_images_and_resumes_at_either_size(monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = {"epochs": 4, "learning_rate": 0.001, "early_scale": 0.5, "early_share": 0.5}
    profile = tiny_profile(**{"model.input_size": 2 * SIDE, "training.scratch": scratch})
    data, calls = tiny_data(), list[tuple[int, int]]()
    images = data.images.repeat(2, axis=1).repeat(2, axis=2)
    train, test = data.rows_outside(0), data.rows_of_fold(0)
    rows = TrialData(ImageInputs(images, profile.augmentation), data.labels, train, test)
    bench, network = Workbench(profile.model, profile.training), object()
    monkeypatch.setattr(
        Workbench,
        "set_up",
        lambda _bench, _strategy, _seed, side=None: (network, RecordedStep(side or 2 * SIDE, calls)),
    )
    positions: list[Position] = []
    run_trial(bench, SCRATCH, rows, seed=1, on_epoch=lambda _epoch, position: positions.append(position()))
    each = -(-len(train) // profile.training.batch_size)
    whole = [(SIDE, 0), (SIDE, each), (2 * SIDE, 2 * each), (2 * SIDE, 3 * each)]
    assert calls == whole
    for position in positions:
        calls.clear()
        result = run_trial(bench, SCRATCH, rows, seed=1, start=position)
        assert calls == whole[len(position.history) :]
        assert [epoch.epoch for epoch in result.history] == [1, 2, 3, 4]


def test_the_networks_used_last_are_kept_and_one_that_goes_frees_its_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    profile, events = tiny_profile(), []

    def make(network: str, *_: object) -> Any:
        events.append(f"build {network}")
        return SimpleNamespace(reset=lambda: None, unload=lambda: events.append(f"unload {network}"))

    monkeypatch.setattr(trial, "build_network", lambda strategy, *_: strategy.name)
    monkeypatch.setattr(trial, "make_step", make)
    monkeypatch.setattr(trial, "set_initial_weights", lambda *_: None)
    bench = Workbench(profile.model, profile.training)
    for name in ("scratch", "fine-tuning-1", "scratch", "fine-tuning-3", "scratch"):
        bench.set_up(strategy_by_name(name), seed=0)
    assert [event for event in events if "build" in event] == [
        f"build {name}" for name in ("scratch", "fine-tuning-1", "fine-tuning-3")
    ]
    last = events.index("build fine-tuning-3")
    assert set(events[last - 2 : last]) == {"unload scratch", "unload fine-tuning-1"}, "before the next is built"


def test_the_state_of_a_step_fits_networks_of_another_size() -> None:
    model = tiny_profile().model
    small, large = (build_network(SCRATCH, dataclasses.replace(model, input_size=side)) for side in (32, 64))
    assert [v.shape for v in small.upper.variables] == [v.shape for v in large.upper.variables]


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


def test_moving_statistics_follow_a_short_training_from_scratch() -> None:
    """With Keras' momentum of 0.999 inference would still answer one class after so few steps."""
    profile = tiny_profile(
        **{"training.scratch": {"epochs": 12, "learning_rate": 0.003}, "augmentation.shift_fraction": 0.0}
    )
    data = tiny_data(112)
    inputs = ImageInputs(data.images, profile.augmentation)
    rows = TrialData(inputs, data.labels, data.rows_outside(0), data.rows_of_fold(0))
    result = run_trial(Workbench(profile.model, profile.training), SCRATCH, rows, seed=3)
    predicted = result.probabilities.argmax(1)
    assert (predicted == data.labels[rows.test]).mean() > 2 / len(CLASSES)  # twice that of one class
    assert len(set(predicted)) > 3


def test_a_loss_that_is_not_finite_stops_the_trial(features: TrialData) -> None:
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


def test_balanced_weights_are_inverse_to_the_class_counts_also_with_absent_classes() -> None:
    labels = np.array([0] * 6 + [1] * 2)
    weights = class_weights(labels, "balanced")
    assert weights[1] == pytest.approx(3 * weights[0])
    assert np.isfinite(weights).all()
    assert weights[labels].mean() == pytest.approx(1)
    assert (class_weights(labels, "none") == 1).all()


def test_seeds_differ_by_fold_and_by_study() -> None:
    assert len({trial_seed(seed, fold) for seed in range(5) for fold in range(10)}) == 50

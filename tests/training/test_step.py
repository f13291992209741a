import keras
import numpy as np
import pytest

from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.errors import ConfigError
from cxr_platform.models.mobilenet import build_network
from cxr_platform.training import step
from cxr_platform.training.inputs import FrozenInputs
from tests.training.builders import tiny_profile


def test_the_loss_is_the_weighted_mean_cross_entropy() -> None:
    logits = np.array([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]], "float32")
    labels, weights = np.array([0, 2], "int32"), np.array([3.0, 1.0], "float32")
    loss, correct = step.loss_and_correct(logits, labels, weights, 0.0)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = -(3 * np.log(probabilities[0, 0]) + np.log(probabilities[1, 2])) / 4
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert int(correct) == 1


def test_label_smoothing_gives_a_perfect_prediction_a_loss() -> None:
    logits, labels, weights = np.array([[50.0, 0.0]], "float32"), np.array([0], "int32"), np.ones(1, "float32")
    assert float(step.loss_and_correct(logits, labels, weights, 0.0)[0]) == pytest.approx(0, abs=1e-4)
    assert float(step.loss_and_correct(logits, labels, weights, 0.1)[0]) == pytest.approx(2.5, rel=1e-3)


def test_the_optimiser_is_adam_that_decays_weights_only_if_asked() -> None:
    optimizers = [step.make_optimizer(decay) for decay in (0.0, 0.01)]
    assert [type(optimizer) for optimizer in optimizers] == [keras.optimizers.Adam] * 2
    assert [optimizer.weight_decay for optimizer in optimizers] == [None, 0.01]


def test_another_backend_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_network(strategy_by_name("off-the-shelf"), tiny_profile().model)
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ConfigError, match=r"tensorflow or jax.*'torch'"):
        step.make_step(network, 0.0, 0.0)


def test_a_state_is_unpacked_as_it_was_packed_and_that_of_another_network_is_refused() -> None:
    groups = [np.ones((2, 3)), np.zeros(4)], [np.array([7, 0])], [np.array(5)]
    shapes = [[array.shape for array in group] for group in groups]
    for one, other in zip(step.unpack(step.pack(*groups), shapes), groups, strict=True):
        assert [a.tolist() for a in one] == [a.tolist() for a in other]
    with pytest.raises(ValueError, match="another"):
        step.unpack(step.pack(groups[0][:1], *groups[1:]), shapes)


def test_the_devices_used_share_a_batch_evenly_with_16_images_or_more_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxr_platform.training.step_tensorflow.count_devices", lambda: 6)
    assert [step.usable_devices(size) for size in (96, 64, 32, 30, 7)] == [6, 4, 2, 1, 1]
    assert [step.usable_devices(64, present) for present in (8, 3, 1)] == [4, 2, 1]


@pytest.mark.parametrize("limit", [1e9, 0])
def test_calls_have_the_same_batches_on_the_device_and_from_the_host(limit: float) -> None:
    arrays = [np.arange(40.0).reshape(20, 2), 40 + np.arange(30.0).reshape(15, 2)]
    positions = np.random.default_rng(0).integers(0, 35, (70, 4)).astype("int32")
    labels = np.arange(280).reshape(70, 4)
    source = step.BatchSource(np.concatenate, limit)
    assert source.load(arrays) == bool(limit)
    calls = list(source.calls((positions, labels)))
    assert sum(call.count for call in calls) == 70
    assert len({call.arrays[0].shape for call in calls}) == 1  # one compiled function
    rows = np.concatenate([call.data[call.arrays[0][: call.count]] for call in calls])
    assert (rows == np.concatenate(arrays)[positions]).all()
    assert (np.concatenate([call.arrays[1][: call.count] for call in calls]) == labels).all()


def test_arrays_in_the_same_memory_are_not_copied_to_the_device_again() -> None:
    chunks = [np.zeros((2, 10, 3), "float16"), np.ones((2, 5, 3), "float16")]
    put: list[int] = []
    source = step.BatchSource(lambda arrays: put.append(len(arrays)) or arrays, 1e9)
    for _fold in range(3):
        assert source.load(FrozenInputs(chunks).arrays)
    assert put == [2]
    source.load(FrozenInputs(chunks[:1]).arrays)
    source.load(FrozenInputs([chunk.copy() for chunk in chunks]).arrays)
    assert put == [2, 1, 2]


def test_weight_decay_leaves_scales_offsets_and_biases_alone() -> None:
    layer = keras.layers.Dense(3)
    layer.build((None, 2))
    optimizer = step.make_optimizer(0.1)
    optimizer.build(layer.trainable_variables)
    before = [np.array(v) for v in layer.trainable_variables]
    layer.bias.assign(np.ones(3))
    optimizer.learning_rate = 1.0
    optimizer.apply([keras.ops.zeros(v.shape) for v in layer.trainable_variables], layer.trainable_variables)
    assert np.allclose(layer.kernel, 0.9 * before[0])
    assert np.allclose(layer.bias, 1)
    assert isinstance(step.make_optimizer(0.0, "mixed_float16"), keras.optimizers.LossScaleOptimizer)

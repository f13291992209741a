import keras
import numpy as np
import pytest
import tensorflow as tf

from cxr_platform.config import Precision
from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.models.initial_weights import set_initial_weights
from cxr_platform.models.mobilenet import Network, build_network
from cxr_platform.training.inputs import FrozenInputs, ImageInputs
from cxr_platform.training.step import Placement, make_optimizer
from cxr_platform.training.step_tensorflow import FusedAdam, TensorFlowStep, pack_pixels, unpack_pixels
from tests.training.builders import random_imagenet, same_batch, tiny_profile


@pytest.fixture(scope="module")
def step() -> TensorFlowStep:
    profile = tiny_profile()
    network = build_network(strategy_by_name("off-the-shelf"), profile.model)
    set_initial_weights(network, 5, random_imagenet(profile))
    return TensorFlowStep(network, weight_decay=0.0, label_smoothing=0.0)


def losses(step: TensorFlowStep, count: int = 4) -> list[float]:
    rng = np.random.default_rng(0)
    step.load(FrozenInputs([rng.normal(size=(1, 8, 1280)).astype("float16")]))
    labels, weights = np.arange(8, dtype="int32") % 7, np.ones(8, "float32")
    return list(map(float, step.train(same_batch((np.arange(8, dtype="int32"),), labels, weights, count=count))[0]))


def test_after_a_reset_the_same_steps_give_the_same_losses_without_tracing(step: TensorFlowStep) -> None:
    imagenet = random_imagenet(tiny_profile())
    runs = []
    for _ in range(3):
        set_initial_weights(step._network, 5, imagenet)
        step.reset()
        runs.append(losses(step))
    assert runs[0] == runs[1] == runs[2]
    assert runs[0][-1] < runs[0][0]
    assert type(step._optimizer) is FusedAdam
    assert step._train.experimental_get_tracing_count() == 1


def test_a_learning_rate_of_zero_changes_no_weight(step: TensorFlowStep) -> None:
    kernel = step._network.full.get_layer("head_logits").kernel
    before = kernel.numpy().copy()
    step.load(FrozenInputs([np.ones((1, 8, 1280), "float16")]))
    index = (np.arange(8, dtype="int32"),)
    step.train(same_batch(index, np.zeros(8, "int32"), np.ones(8, "float32"), rate=0.0))
    assert (kernel.numpy() == before).all()


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_the_fused_update_is_that_of_keras_but_for_rounding(weight_decay: float) -> None:
    rng = np.random.default_rng(0)
    start, *gradients = rng.normal(size=(21, 50, 7)).astype("float32")
    results = []
    for adam in (keras.optimizers.Adam, FusedAdam):
        optimizer = make_optimizer(weight_decay, "float32", adam)
        optimizer.learning_rate = 0.01
        weights = [keras.Variable(start, name=name) for name in ("kernel", "bias")]  # a bias does not decay
        optimizer.build(weights)
        for gradient in gradients:
            optimizer.apply([tf.constant(gradient)] * 2, weights)
        results.append([np.array(variable) for variable in (*weights, *optimizer.variables)])
    for own, fused in zip(*results, strict=True):
        assert fused == pytest.approx(own, abs=1e-5)
    kernel, bias, *_ = results[0]
    assert np.abs(bias - start).max() > 0.05
    assert (np.abs(kernel - bias).max() > 0.01) == bool(weight_decay)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_a_mixed_precision_step_learns(precision: Precision) -> None:
    profile = tiny_profile()
    network = build_network(strategy_by_name("off-the-shelf"), profile.model, precision)
    set_initial_weights(network, 5, random_imagenet(profile))
    step = TensorFlowStep(network, weight_decay=0.0, label_smoothing=0.0)
    step.reset()
    values = losses(step)
    assert np.isfinite(values).all()
    assert values[-1] < values[0]
    assert {v.dtype for v in network.upper.trainable_variables} == {"float32"}
    moving_mean = np.array(network.full.get_layer("head_bn").moving_mean)
    assert (moving_mean != moving_mean.astype(COMPUTE_TYPES[precision]).astype("float32")).any()
    assert_float32_predictions(step.logits((np.arange(8, dtype="int32")[None],))[0], network)


COMPUTE_TYPES = {"mixed_bfloat16": tf.bfloat16.as_numpy_dtype, "mixed_float16": "float16"}


def assert_float32_predictions(logits: np.ndarray, network: Network) -> None:
    """`logits` of the activations in `losses` are those of a float32 network with the same weights."""
    exact = build_network(network.strategy, network.config)
    exact.full.set_weights(network.full.get_weights())
    activations = np.random.default_rng(0).normal(size=(1, 8, 1280)).astype("float16")[0].astype("float32")
    expected = exact.upper(activations, training=False).numpy()
    rounding = np.abs(network.upper(activations, training=False).numpy() - expected).max()
    assert np.abs(logits - expected).max() < 0.01 * rounding


def test_packed_pixels_are_the_same_bits_also_of_an_odd_number() -> None:
    for side in (4, 5):
        images = np.random.default_rng(0).integers(0, 256, (6, side, side), dtype="uint8")
        rows = pack_pixels(images)
        assert rows.dtype == "float16"
        assert np.shares_memory(rows, images) == (side == 4)
        assert (unpack_pixels(tf.gather(rows, [4, 0, 2]), side).numpy() == images[[4, 0, 2]]).all()


@pytest.fixture(scope="module")
def from_scratch() -> Network:
    return build_network(strategy_by_name("scratch"), tiny_profile().model, "mixed_bfloat16")


def test_packed_pixels_are_gathered_as_images(from_scratch: Network) -> None:
    """As on a GPU, where TensorFlow cannot gather uint8."""
    images = np.random.default_rng(0).integers(0, 256, (16, 32, 32), dtype="uint8")
    inputs = ImageInputs(images, tiny_profile().augmentation)
    rows, transforms = (array[None] for array in inputs.clean_index(np.array([3, 0, 15])))
    step = TensorFlowStep(from_scratch, 0.0, 0.0, Placement(deterministic=False))
    step._packed = True
    batch = step._batch(step._put(inputs.arrays), [tf.constant(rows), tf.constant(transforms)], 0)
    assert (batch[0].numpy() == images[[3, 0, 15]]).all()

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from cxr_platform.config import ModelConfig, Precision
from cxr_platform.domain.strategies import STRATEGIES, STRATEGY_NAMES, strategy_by_name
from cxr_platform.models.initial_weights import BackboneWeights, set_initial_weights
from cxr_platform.models.mobilenet import BatchNormalization, DepthwiseConv2D, Network, build_network, cut_tensor
from tests.models.conftest import NetworkOf

HEAD = ["head_dense", "head_bn", "head_logits"]
TOP = ["Conv_1", "Conv_1_bn"]
CUT_STRATEGIES = [s.name for s in STRATEGIES if s.cut]


def block(number: int) -> list[str]:
    """The layers with weights of one inverted-residual block."""
    parts = ["expand", "expand_BN", "depthwise", "depthwise_BN", "project", "project_BN"]
    return [f"block_{number}_{part}" for part in parts]


def blocks(first: int, last: int = 16) -> list[str]:
    return [layer for number in range(first, last + 1) for layer in block(number)]


STEM = ["Conv1", "bn_Conv1"] + [
    f"expanded_conv_{part}" for part in ("depthwise", "depthwise_BN", "project", "project_BN")
]
TRAINED = {
    "off-the-shelf": HEAD,
    "fine-tuning-1": block(16) + TOP + HEAD,
    "fine-tuning-3": blocks(14) + TOP + HEAD,
    "fine-tuning-5": blocks(12) + TOP + HEAD,
    "fine-tuning-7": blocks(10) + TOP + HEAD,
    "fine-tuning-9": blocks(8) + TOP + HEAD,
    "fine-tuning-11": blocks(6) + TOP + HEAD,
    "scratch": STEM + blocks(1) + TOP + HEAD,
}


def images(count: int, size: int = 32) -> np.ndarray:
    """What the network takes: (count, S, S, 3) float32 in −1…1."""
    return np.random.default_rng(3).uniform(-1, 1, (count, size, size, 3)).astype("float32")


def moving_statistics(network: Network) -> dict[str, np.ndarray]:
    layers = [layer for layer in network.full.layers if isinstance(layer, keras.layers.BatchNormalization)]
    return {layer.name: np.concatenate([layer.moving_mean, layer.moving_variance]) for layer in layers}


@pytest.mark.parametrize("name", STRATEGY_NAMES)
def test_a_strategy_trains_exactly_its_layers(name: str, network_of: NetworkOf) -> None:
    assert sorted(network_of(name).trained_layers) == sorted(TRAINED[name])


@pytest.mark.parametrize("name", STRATEGY_NAMES)
def test_upper_holds_everything_that_is_trained(name: str, network_of: NetworkOf) -> None:
    network = network_of(name)
    assert {id(v) for v in network.upper.trainable_variables} == {id(v) for v in network.full.trainable_variables}
    in_upper = {layer.name for layer in network.upper.layers if layer.weights}
    assert in_upper == set(TRAINED[name])


@pytest.mark.parametrize("name", CUT_STRATEGIES)
def test_upper_after_the_activations_at_the_cut_gives_the_logits_of_full(
    name: str, network_of: NetworkOf, imagenet: BackboneWeights
) -> None:
    network = network_of(name)
    set_initial_weights(network, seed=1, imagenet=imagenet)
    cut = network.strategy.cut or ""
    below = keras.Model(network.full.input, cut_tensor(network.full, cut))
    batch = images(4)
    whole = np.asarray(network.full(batch, training=False))
    assert np.ptp(whole) > 0.01
    np.testing.assert_allclose(np.asarray(network.upper(below(batch), training=False)), whole, rtol=1e-4, atol=1e-5)


def test_scratch_has_no_cut_and_one_network(network_of: NetworkOf) -> None:
    network = network_of("scratch")
    assert network.upper is network.full


@pytest.mark.parametrize("name", ["off-the-shelf", "fine-tuning-5", "scratch"])
def test_frozen_batch_normalisation_stays_in_inference_mode(
    name: str, network_of: NetworkOf, imagenet: BackboneWeights
) -> None:
    network = network_of(name)
    set_initial_weights(network, seed=1, imagenet=imagenet)
    before = moving_statistics(network)
    network.full(images(8), training=True)
    after = moving_statistics(network)
    moved = {layer for layer, values in before.items() if not np.array_equal(values, after[layer])}
    assert moved == {layer for layer in TRAINED[name] if layer.lower().endswith("_bn") or layer == "bn_Conv1"}


def test_batch_normalisation_has_the_momentum_of_the_profile() -> None:
    network = build_network(
        strategy_by_name("scratch"), ModelConfig(input_size=32, alpha=0.35, batch_norm_momentum=0.8)
    )
    layers = [layer for layer in network.full.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {layer.momentum for layer in layers} == {0.8}
    assert len(layers) == 53


def test_fused_batch_normalisation_is_keras_own_but_for_rounding() -> None:
    rng = np.random.default_rng(1)
    inputs, grown = (tf.constant(rng.normal(2, 3, (4, 5, 6, 3)), "float32") for _ in range(2))
    results = []
    for kind in (keras.layers.BatchNormalization, BatchNormalization):
        layer = kind(momentum=0.9)
        layer.build(inputs.shape)
        layer.gamma.assign([0.5, 1.0, 2.0])
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, training=True)
        gradients = tape.gradient(outputs, [inputs, *layer.trainable_variables], output_gradients=grown)
        results.append([outputs, *gradients, *layer.non_trainable_variables, layer(inputs, training=False)])
    for expected, received in zip(*results, strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-4)


def test_all_batch_normalisation_of_the_backbone_is_fused(network_of: NetworkOf) -> None:
    layers = [layer for layer in network_of("scratch").full.layers if "BN" in layer.name or "bn_" in layer.name]
    assert {type(layer) for layer in layers} == {BatchNormalization}
    assert len(layers) == 51


def test_weights_of_a_network_of_keras_own_layers_can_be_loaded(network_of: NetworkOf, tmp_path: Path) -> None:
    def stock(layer: keras.Layer) -> keras.Layer:
        kind = getattr(keras.layers, type(layer).__name__)
        return kind.from_config(layer.get_config())

    network = network_of("scratch")
    assert {BatchNormalization, DepthwiseConv2D} < {type(layer) for layer in network.full.layers}
    keras_own = keras.models.clone_model(network.full, clone_function=stock)
    rng = np.random.default_rng(2)
    keras_own.set_weights([rng.uniform(0.5, 1, array.shape).astype("float32") for array in keras_own.get_weights()])
    keras_own.save_weights(tmp_path / "model.weights.h5")
    network.full.load_weights(tmp_path / "model.weights.h5")
    for expected, received in zip(keras_own.get_weights(), network.full.get_weights(), strict=True):
        assert np.array_equal(received, expected)


def test_the_head_is_the_papers() -> None:
    head = build_network(strategy_by_name("off-the-shelf"), ModelConfig(input_size=32)).upper.layers[1:]
    dense, normalisation, dropout, logits = head
    assert [type(layer) for layer in head] == [
        keras.layers.Dense,
        keras.layers.BatchNormalization,
        keras.layers.Dropout,
        keras.layers.Dense,
    ]
    assert (dense.kernel.shape, dense.activation) == ((1280, 2500), keras.activations.relu)
    assert normalisation.gamma.shape == (2500,)
    assert dropout.rate == 0.5
    assert (logits.kernel.shape, logits.activation) == ((2500, 7), keras.activations.linear)


def test_features_are_the_mean_over_the_map_of_the_last_convolution(network_of: NetworkOf) -> None:
    full = network_of("off-the-shelf").full
    ends = keras.Model(full.input, [full.get_layer("out_relu").output, cut_tensor(full, "features")])
    maps, features = (np.asarray(output) for output in ends(images(2)))
    assert features.shape == (2, 1280)
    np.testing.assert_allclose(features, maps.mean(axis=(1, 2)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("cut", "last"), [("block_5", "block_5_add"), ("block_13", "block_13_project_BN")])
def test_a_cut_is_the_end_of_its_block_with_or_without_a_residual(cut: str, last: str, network_of: NetworkOf) -> None:
    full = network_of("scratch").full
    assert cut_tensor(full, cut) is full.get_layer(last).output


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_with_mixed_precision_weights_and_logits_are_float32_and_layers_compute_in_16_bits(
    precision: Precision,
) -> None:
    network = build_network(strategy_by_name("fine-tuning-1"), ModelConfig(input_size=32), precision)
    assert network.full.get_layer("Conv_1").compute_dtype == precision.removeprefix("mixed_")
    assert {str(variable.dtype) for variable in network.full.trainable_variables} == {"float32"}
    assert network.full.output.dtype == network.upper.output.dtype == "float32"
    assert keras.config.dtype_policy().name == "float32"

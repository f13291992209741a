"""Layers and their translation, one by one: what the network of a study does not have as well as what it has."""

import keras
import numpy as np
import onnx
import onnxruntime
import pytest

from cxr_platform.champion.onnx_graph import network_graph
from cxr_platform.errors import BundleError
from cxr_platform.models.augment import to_network_input
from cxr_platform.models.mobilenet import BatchNormalization

SIDE = 13  # odd, so that padding differs on the two sides of an even stride


def network(*layers: keras.layers.Layer) -> keras.Model:
    """Images (B, S, S, 3) → `layers` → the layer "features" → two logits."""
    x = given = keras.Input((SIDE, SIDE, 3))
    for layer in layers:
        x = layer(x)
    x = keras.layers.GlobalAveragePooling2D(name="features")(x)
    return keras.Model(given, keras.layers.Dense(2)(x))


def difference(model: keras.Model, count: int = 3) -> float:
    """Largest difference between ONNX Runtime and Keras, on random images and random weights of every kind."""
    rng = np.random.default_rng(5)
    for layer in model.layers:
        layer.set_weights([rng.uniform(0.2, 1.5, np.shape(array)).astype("float32") for array in layer.get_weights()])
    graph = network_graph(model)
    onnx.checker.check_model(graph, full_check=True)
    images = rng.integers(0, 256, (count, SIDE, SIDE)).astype("uint8")
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    logits, features = session.run(["logits", "features"], {"images": images})
    both = keras.Model(model.input, [model.output, model.get_layer("features").output])
    expected = [np.asarray(each) for each in both(to_network_input(images), training=False)]
    assert expected[0].std() > 1e-3, "the images differ"
    return max(float(np.abs(ours - theirs).max()) for ours, theirs in zip((logits, features), expected, strict=True))


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("strides", [1, 2, 3])
@pytest.mark.parametrize("kernel", [2, 3])
def test_a_convolution_has_the_padding_of_keras(kernel: int, strides: int, padding: str) -> None:
    assert difference(network(keras.layers.Conv2D(4, kernel, strides, padding, activation="relu"))) < 1e-4


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("strides", [1, 2])
def test_a_convolution_by_channel_keeps_the_order_of_channels(strides: int, padding: str) -> None:
    layer = keras.layers.DepthwiseConv2D(3, strides, padding, depth_multiplier=2, use_bias=True)
    assert difference(network(layer)) < 1e-4


def test_zeros_are_padded_on_each_side_by_its_own_number() -> None:
    layers = keras.layers.ZeroPadding2D(((0, 3), (2, 1))), keras.layers.Conv2D(3, 3, use_bias=False)
    assert difference(network(*layers)) < 1e-4


def test_batch_normalisation_uses_the_moving_statistics_and_epsilon() -> None:
    layers = keras.layers.BatchNormalization(epsilon=0.3), keras.layers.ReLU(0.7), keras.layers.ReLU()
    assert difference(network(*layers)) < 1e-4


def test_a_layer_derived_from_a_known_one_has_its_translation() -> None:
    assert difference(network(BatchNormalization(epsilon=0.3))) < 1e-4


def test_dropout_does_nothing() -> None:
    assert difference(network(keras.layers.Dropout(0.9))) < 1e-5


def test_a_layer_without_translation_is_an_error_that_names_it() -> None:
    with pytest.raises(BundleError, match=r"Conv2D.*Received: MaxPooling2D \(pool\).*onnx_graph"):
        network_graph(network(keras.layers.MaxPooling2D(name="pool")))


def test_an_activation_without_translation_is_an_error() -> None:
    with pytest.raises(BundleError, match="Expected the activation relu or linear"):
        network_graph(network(keras.layers.Conv2D(2, 3, activation="tanh")))


def test_the_graph_is_the_same_each_time() -> None:
    model = network(keras.layers.Conv2D(2, 3))
    assert network_graph(model).SerializeToString() == network_graph(model).SerializeToString()

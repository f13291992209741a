"""Heatmaps of where in an image a network finds its answer: HiResCAM at three depths, multiplied.

At each of three layers (the last ones at a quarter, an eighth and a sixteenth of the image's side) every place gets the
sum over channels of gradient × (activation − its mean over the image), with negative sums set to zero. That is HiResCAM
(Draelos & Carin 2020, arXiv:2011.08891) of what a place has and the rest of the image has not. The three maps are
multiplied, so that only places remain on which all depths agree. The score that is explained is the logit of a class
minus the mean of all logits.

Why not Grad-CAM at the last convolution (Selvaraju et al. 2017): at 96 pixels it has 3 × 3 cells, each of which sees
the whole image. Measured on planted images of 96 pixels (tests/evidence/builders.py, 40 unseen images, all answered
right), mean share of a map that falls on the planted sign, over the classes that have one:

                                   in the corner (3 % of the image)    in the lungs (22 %)
    fine-tuning-5  Grad-CAM                                    3 %                   33 %
    fine-tuning-5  this module                                70 %                   53 %
    off-the-shelf  Grad-CAM                                    2 %                   24 %
    off-the-shelf  this module                                69 %                   56 %

On the corner images Grad-CAM puts 75 % of its heat into the lungs, where there is nothing; this module puts 9 % there.
LayerCAM, SmoothGrad, integrated gradients and occlusion by patches did worse on one of the two sets or on both. The
maps of images whose class is recognised by what they lack have no place to point to and mean little.

A check that the maps do not pass on every image (Adebayo et al. 2018): on 60 images of the public sources the networks
of a fine-tuned study had lung shares of 38 to 48 %, and with the weights of their head shuffled of 34 to 49 %. The
activations of the backbone shape a map as much as the head does: a low share alone proves no shortcut.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, TypeAlias

import keras
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr_platform.domain.strategies import Strategy
from cxr_platform.errors import ConfigError, NotPossible
from cxr_platform.models.augment import to_network_input
from cxr_platform.models.frozen import BATCH, pad
from cxr_platform.models.mobilenet import Network

LAYERS = ("block_3_expand_relu", "block_6_expand_relu", "block_13_expand_relu")
"""All information of an image passes through each of these layers: no shortcut connection spans them."""
LOGITS, FEATURES = "head_logits", "head_dropout"
"""What can be explained: the logits of the classes, or the features that they are computed from."""

LayerMaps: TypeAlias = Callable[[NDArray[np.float32], NDArray[np.float32]], Sequence[Any]]
"""Input (B, S, S, 3) in −1…1 and weights (B, K) of the outputs → a map (B, h, w) ≥ 0 for each of `LAYERS`."""
Variables: TypeAlias = tuple[list[Any], list[Any]]
"""Trainable and other variables of a segment."""


def check_has_heatmaps(strategy: Strategy) -> None:
    """Raise `NotPossible` for a strategy whose networks get several views of an image."""
    if strategy.is_solved:
        raise NotPossible(
            "Expected a strategy whose networks get an image as a whole, to explain it by a heatmap.",
            received=f"{strategy.name}, whose head adds up the scores of several views",
            advice="Explain another strategy of the study.",
        )


def heatmaps(network: Network, images: NDArray[np.uint8], target: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
    """Return maps (N, S/4, S/4) in 0…1 of images (N, S, S), for the classes `target` (N,), positions in `CLASSES`.

    The maximum of each map is 1. The map is zero if nothing in the image supports the class or a gradient is not
    finite. Raises `ConfigError` for a Keras backend other than TensorFlow and JAX.
    """
    classes = network.full.output.shape[-1]
    return _heatmaps(network, LOGITS, images, np.eye(classes, dtype="float32")[target] - np.float32(1 / classes))


def feature_heatmaps(
    network: Network, images: NDArray[np.uint8], features: NDArray[np.integer[Any]]
) -> NDArray[np.float32]:
    """Return maps as `heatmaps` does, of the features with numbers `features` (N,) in `feature_ranking.penultimate`."""
    weights = np.zeros((len(images), network.config.dense_units), "float32")
    weights[np.arange(len(images)), features] = 1
    return _heatmaps(network, FEATURES, images, weights)


def segments(network: Network, output: str) -> list[keras.Model]:
    """Return the network cut at `LAYERS`: image → first layer → … → `output`. The segments share its layers."""
    cuts = [network.full.input, *(network.full.get_layer(name).output for name in (*LAYERS, output))]
    return [keras.Model(lower, upper) for lower, upper in pairwise(cuts)]


def place_evidence(activation: Any, gradient: Any) -> Any:
    """Return (B, h, w) ≥ 0 from two (B, h, w, C): what a place has beyond the mean and that raises the score."""
    beyond = activation - keras.ops.mean(activation, axis=(1, 2), keepdims=True)
    return keras.ops.relu(keras.ops.sum(beyond * gradient, axis=-1))


def _heatmaps(
    network: Network, output: str, images: NDArray[np.uint8], weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    layer_maps = _layer_maps(network, output)
    size = 1 if len(images) == 1 else BATCH  # two compiled shapes: batches for a report, one image for a request
    parts = [np.zeros((0, images.shape[1] // 4, images.shape[1] // 4), "float32")]
    for start in range(0, len(images), size):
        batch, batch_weights = images[start : start + size], weights[start : start + size]
        inputs = keras.ops.convert_to_numpy(to_network_input(pad(batch, size)))
        maps = layer_maps(inputs, pad(batch_weights, size))
        parts.append(_multiplied([np.asarray(keras.ops.convert_to_numpy(m))[: len(batch)] for m in maps]))
    return np.concatenate(parts)


@lru_cache(maxsize=2)  # compiled once for a network, whose weights change from fold to fold
def _layer_maps(network: Network, output: str) -> LayerMaps:
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _layer_maps_tensorflow(segments(network, output))
    if backend == "jax":
        return _layer_maps_jax(segments(network, output))
    raise ConfigError("Expected KERAS_BACKEND to be tensorflow or jax.", received=repr(backend))


def _layer_maps_tensorflow(parts: Sequence[keras.Model]) -> LayerMaps:
    """Compile `LayerMaps` once; the variables are read at every call."""
    import tensorflow as tf

    def layer_maps(inputs: Any, weights: Any) -> list[Any]:
        activations = []
        with tf.GradientTape() as tape:
            value = parts[0](inputs, training=False)
            for part in parts[1:]:
                tape.watch(value)
                activations.append(value)
                value = part(value, training=False)
            score = tf.reduce_sum(value * weights)
        gradients = tape.gradient(score, activations)
        return [place_evidence(*pair) for pair in zip(activations, gradients, strict=True)]

    compiled = tf.function(layer_maps, autograph=False)
    return lambda inputs, weights: list(compiled(tf.constant(inputs), tf.constant(weights)))


def _layer_maps_jax(parts: Sequence[keras.Model]) -> LayerMaps:
    """Compile `LayerMaps` once; the variables are passed at every call."""
    import jax

    def call(part: keras.Model, variables: Variables, inputs: Any) -> Any:
        outputs, _ = part.stateless_call(*variables, inputs, training=False)
        return outputs

    def layer_maps(state: list[Variables], inputs: Any, weights: Any) -> list[Any]:
        value, layers = call(parts[0], state[0], inputs), []
        for part, variables in zip(parts[1:], state[1:], strict=True):
            activation = value
            value, pull_back = jax.vjp(lambda a, p=part, v=variables: call(p, v, a), activation)
            layers.append((activation, pull_back))
        gradient, maps = weights, []
        for activation, pull_back in reversed(layers):
            (gradient,) = pull_back(gradient)
            maps.append(place_evidence(activation, gradient))
        return maps[::-1]

    def values(part: keras.Model) -> Variables:
        return [v.value for v in part.trainable_variables], [v.value for v in part.non_trainable_variables]

    compiled = jax.jit(layer_maps)
    return lambda inputs, weights: list(compiled([values(part) for part in parts], inputs, weights))


def _multiplied(maps: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return the product of the maps, each enlarged to the size of the first and scaled to a maximum of 1."""
    side = maps[0].shape[1]
    product = np.prod([_scaled(np.stack([_enlarged(m, side) for m in level])) for level in maps], axis=0)
    return _scaled(product)


def _enlarged(values: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    return np.asarray(Image.fromarray(values.astype("float32")).resize((side, side), Image.Resampling.BILINEAR))


def _scaled(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    greatest = maps.max(axis=(1, 2), keepdims=True)
    scaled = np.zeros_like(maps)
    np.divide(maps, greatest, out=scaled, where=(greatest > 0) & np.isfinite(greatest))
    return scaled

"""Initial weights of a network: those of ImageNet in a pretrained backbone, seeded random ones elsewhere.

Random weights are drawn with NumPy, not with the backend's generator, so that a seed gives the same weights on
TensorFlow and JAX, and a network can be reset without building it again.
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from cxr_platform.errors import WeightsError
from cxr_platform.models.mobilenet import HEAD_LAYERS, Network

BackboneWeights = Mapping[str, list[NDArray[Any]]]
"""Layer name → its arrays in Keras' order."""


def set_initial_weights(network: Network, seed: int, imagenet: BackboneWeights | None) -> None:
    """Set every variable of `network`: seeded Glorot uniform, or `imagenet` below the head.

    Raises `WeightsError` if the strategy needs ImageNet weights and `imagenet` is `None`.
    """
    if network.strategy.pretrained and imagenet is None:
        raise WeightsError(f"Expected ImageNet weights for strategy {network.strategy.name}.", received="none")
    rng = np.random.default_rng([seed, 0])
    for layer in network.full.layers:
        if not layer.weights:
            continue
        pretrained = network.strategy.pretrained and layer.name not in HEAD_LAYERS
        if pretrained and imagenet is not None:
            layer.set_weights(imagenet[layer.name])
        else:
            layer.set_weights([_initial(variable, rng) for variable in layer.weights])
    _seed_dropout(network, seed)


def _initial(variable: keras.Variable, rng: np.random.Generator) -> NDArray[Any]:
    """Return Keras' default: Glorot uniform kernels (Glorot & Bengio 2010), unit scales, zero offsets."""
    name, shape = variable.name, tuple(variable.shape)
    if name in ("gamma", "moving_variance"):
        return np.ones(shape, "float32")
    if name in ("beta", "moving_mean", "bias"):
        return np.zeros(shape, "float32")
    receptive_field = int(np.prod(shape[:-2]))
    limit = np.sqrt(6.0 / (receptive_field * (shape[-2] + shape[-1])))
    return rng.uniform(-limit, limit, shape).astype("float32")


def _seed_dropout(network: Network, seed: int) -> None:
    for layer in network.full.layers:
        if isinstance(layer, keras.layers.Dropout) and layer.rate > 0:
            layer.seed_generator.state.assign(np.array([seed % 2**31, 0], "uint32"))

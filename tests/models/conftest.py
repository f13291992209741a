"""Small networks that the tests of this package share: building one takes about a second."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from cxr_platform.config import ModelConfig
from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.models.initial_weights import BackboneWeights
from cxr_platform.models.mobilenet import HEAD_LAYERS, Network, build_network

NetworkOf = Callable[[str], Network]


@pytest.fixture(scope="session")
def small() -> ModelConfig:
    """The narrowest MobileNetV2 on the smallest images; its layers have the same names as those of the paper's."""
    return ModelConfig(input_size=32, alpha=0.35, dense_units=50)


@pytest.fixture(scope="session")
def network_of(small: ModelConfig) -> NetworkOf:
    """Strategy name → its network, built once. A test that needs certain weights sets them."""
    return cache(lambda name: build_network(strategy_by_name(name), small))


@pytest.fixture(scope="session")
def imagenet(network_of: NetworkOf) -> BackboneWeights:
    """Random stand-ins for ImageNet's arrays, batch normalisation included, in the shapes of the `small` backbone."""
    rng = np.random.default_rng(11)
    layers = [layer for layer in network_of("scratch").full.layers if layer.weights and layer.name not in HEAD_LAYERS]
    return {layer.name: [stand_in(array, rng) for array in layer.get_weights()] for layer in layers}


def stand_in(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """He-scaled kernels; positive vectors near 1 for scales, offsets, means and variances alike."""
    if array.ndim == 1:
        return rng.uniform(0.5, 1.5, array.shape).astype("float32")
    fan_in = np.prod(array.shape[:-1]) if array.shape[-1] > 1 else np.prod(array.shape[:2])
    return rng.normal(0, np.sqrt(2 / fan_in), array.shape).astype("float32")

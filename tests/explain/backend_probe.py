"""Write the heatmaps of one network with the Keras backend of this process, for comparison with another backend."""

import sys
from functools import cache

import numpy as np

from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.explain.saliency import heatmaps
from cxr_platform.models.mobilenet import Network, build_network
from tests.models.conftest import stand_in
from tests.training.builders import SIDE, tiny_profile

TARGETS = np.array([0, 3, 6, 0, 5])


def images(count: int = len(TARGETS)) -> np.ndarray:
    """Return noise with a bright patch at a different place in each image."""
    rng = np.random.default_rng(5)
    made = rng.integers(60, 120, (count, SIDE, SIDE))
    for number in range(count):
        made[number, 4 * number : 4 * number + 8, 20 - 4 * number : 28 - 4 * number] += 120
    return made.astype("uint8")


@cache
def network() -> Network:
    """Return a network with random weights, the same on every backend, scaled so that signals pass through."""
    built = build_network(strategy_by_name("fine-tuning-1"), tiny_profile().model)
    rng = np.random.default_rng(11)
    for layer in built.full.layers:
        if layer.weights:
            layer.set_weights([stand_in(array, rng) for array in layer.get_weights()])
    return built


if __name__ == "__main__":
    np.save(sys.argv[1], heatmaps(network(), images(), TARGETS))

import numpy as np
import pytest

from cxr_platform.config import ModelConfig
from cxr_platform.errors import WeightsError
from cxr_platform.models.initial_weights import BackboneWeights, set_initial_weights
from cxr_platform.models.mobilenet import HEAD_LAYERS, Network
from tests.models.conftest import NetworkOf

Weights = dict[str, list[np.ndarray]]


def weights_of(network: Network) -> Weights:
    """Layer name → its arrays; the state of the dropout's random generator counts as one of that layer."""
    layers = {layer.name: layer.get_weights() for layer in network.full.layers if layer.weights}
    generator = network.full.get_layer("head_dropout").seed_generator
    return {**layers, "head_dropout": [np.asarray(generator.state)]}


def same(first: Weights, second: Weights) -> set[str]:
    """Layers that have the same arrays in both."""
    return {name for name in first if all(map(np.array_equal, first[name], second[name]))}


def disturb(network: Network) -> None:
    for layer in network.full.layers:
        layer.set_weights([array + 1 for array in layer.get_weights()])
    network.full.get_layer("head_dropout").seed_generator.next()


def started(network: Network, seed: int, imagenet: BackboneWeights | None = None) -> Weights:
    set_initial_weights(network, seed, imagenet)
    return weights_of(network)


def test_the_same_seed_gives_the_same_weights_after_a_training(network_of: NetworkOf) -> None:
    network = network_of("scratch")
    first = started(network, 5)
    disturb(network)
    assert same(first, weights_of(network)) == set()
    assert same(first, started(network, 5)) == set(first)


def test_another_seed_gives_other_kernels_and_other_dropout(network_of: NetworkOf) -> None:
    network = network_of("scratch")
    alike = same(started(network, 5), started(network, 6))
    assert alike == {name for name in weights_of(network) if name.lower().endswith("_bn") or name == "bn_Conv1"}


def test_a_seed_beyond_32_bits_is_accepted(network_of: NetworkOf) -> None:
    started(network_of("off-the-shelf"), 2**40 + 1, imagenet=started(network_of("scratch"), 1))


def test_kernels_are_glorot_uniform(network_of: NetworkOf, small: ModelConfig) -> None:
    start = started(network_of("scratch"), 5)
    fans = {"Conv1": 9 * (3 + 16), "head_dense": 1280 + small.dense_units, "block_3_depthwise": 9 * (48 + 1)}
    for name, fans_in_and_out in fans.items():
        kernel, limit = start[name][0], np.sqrt(6 / fans_in_and_out)
        assert 0.9 * limit < np.abs(kernel).max() <= limit, name
        assert kernel.std() == pytest.approx(limit / np.sqrt(3), rel=0.1), name


def test_offsets_start_at_zero_and_scales_at_one(network_of: NetworkOf) -> None:
    start = started(network_of("scratch"), 5)
    gamma, beta, mean, variance = start["block_3_expand_BN"]
    assert np.all(gamma == 1)
    assert np.all(variance == 1)
    assert not beta.any()
    assert not mean.any()
    assert not start["head_logits"][1].any()


def test_a_pretrained_strategy_without_imagenet_weights_is_refused(network_of: NetworkOf) -> None:
    with pytest.raises(WeightsError, match="Expected ImageNet weights for strategy fine-tuning-5"):
        set_initial_weights(network_of("fine-tuning-5"), seed=1, imagenet=None)


@pytest.mark.parametrize("name", ["off-the-shelf", "fine-tuning-11"])
def test_imagenet_weights_are_in_the_backbone_and_not_in_the_head(
    name: str, network_of: NetworkOf, imagenet: BackboneWeights
) -> None:
    start = started(network_of(name), 5, imagenet)
    given = {**imagenet, **{head: [np.full_like(a, 9) for a in start[head]] for head in HEAD_LAYERS}}
    assert same(start, given) == set(imagenet)
    assert same(start, started(network_of(name), 5, given)) == set(start)


def test_scratch_does_not_use_imagenet_weights(network_of: NetworkOf, imagenet: BackboneWeights) -> None:
    network = network_of("scratch")
    plain = started(network, 5)
    assert same(plain, started(network, 5, imagenet)) == set(plain)


def test_the_head_has_the_same_initial_weights_in_every_pretrained_strategy(
    network_of: NetworkOf, imagenet: BackboneWeights
) -> None:
    """Strategies of a fold share a seed: with weights from a file below, they differ in nothing but what is trained."""
    starts = [started(network_of(name), 5, imagenet) for name in ("off-the-shelf", "fine-tuning-1", "fine-tuning-11")]
    assert same(starts[0], starts[1]) == same(starts[0], starts[2]) == set(starts[0])

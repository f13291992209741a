import keras
import numpy as np
import pytest

from cxr_platform.config import AugmentationConfig, ModelConfig
from cxr_platform.domain.strategies import STRATEGIES
from cxr_platform.models.augment import draw_transforms, to_network_input
from cxr_platform.models.frozen import BATCH, FrozenBackbone, chunks, pad, view_transforms
from cxr_platform.models.initial_weights import BackboneWeights, set_initial_weights
from cxr_platform.models.mobilenet import Network, cut_tensor
from tests.models.conftest import NetworkOf

CUTS = [s.cut for s in STRATEGIES if s.cut]
COUNT = BATCH + 3  # the second batch is not full
AUGMENTATION = AugmentationConfig(views=2)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (COUNT, 32, 32), "uint8")


@pytest.fixture(scope="module")
def frozen(small: ModelConfig, imagenet: BackboneWeights) -> FrozenBackbone:
    return FrozenBackbone(CUTS, small, imagenet)


def directly(network: Network, cut: str, images: np.ndarray, transforms: np.ndarray | None) -> np.ndarray:
    """Activations at `cut` of the network itself, in float32."""
    below = keras.Model(network.full.input, cut_tensor(network.full, cut))
    return np.asarray(below(to_network_input(images, transforms), training=False))


def assert_equal_in_float16(stored: np.ndarray, exact: np.ndarray) -> None:
    assert stored.dtype == np.float16
    assert stored.shape == exact.shape
    assert exact.std() > 1e-3
    np.testing.assert_allclose(stored, exact, rtol=2e-3, atol=2e-3 * np.abs(exact).max())


def test_activations_at_every_cut_are_those_of_the_network_run_directly(
    frozen: FrozenBackbone, images: np.ndarray, network_of: NetworkOf, imagenet: BackboneWeights
) -> None:
    network = network_of("off-the-shelf")
    set_initial_weights(network, seed=9, imagenet=imagenet)
    moves = draw_transforms(np.random.default_rng(3), COUNT, 32, AUGMENTATION)
    stored = frozen.activations(images, moves)
    assert list(stored) == CUTS
    for cut in CUTS:
        assert_equal_in_float16(stored[cut], directly(network, cut, images, moves))


def test_view_0_is_the_image_without_augmentation(
    frozen: FrozenBackbone, images: np.ndarray, network_of: NetworkOf, imagenet: BackboneWeights
) -> None:
    network = network_of("off-the-shelf")
    set_initial_weights(network, seed=9, imagenet=imagenet)
    clean = view_transforms(COUNT, 32, AUGMENTATION, seed=1)[0]
    exact = directly(network, "block_5", images, transforms=None)
    assert_equal_in_float16(frozen.activations(images, clean)["block_5"], exact)


def test_stored_activations_lead_upper_to_the_logits_of_full(
    frozen: FrozenBackbone, images: np.ndarray, network_of: NetworkOf, imagenet: BackboneWeights
) -> None:
    network = network_of("fine-tuning-5")
    set_initial_weights(network, seed=9, imagenet=imagenet)
    stored = frozen.activations(images, view_transforms(COUNT, 32, AUGMENTATION, seed=1)[0])[network.strategy.cut or ""]
    through_upper = np.asarray(network.upper(stored.astype("float32"), training=False))
    exact = np.asarray(network.full(to_network_input(images), training=False))
    np.testing.assert_allclose(through_upper, exact, atol=5e-3 * np.ptp(exact))


def test_an_image_has_the_same_activations_alone_and_in_a_batch(frozen: FrozenBackbone, images: np.ndarray) -> None:
    moves = view_transforms(COUNT, 32, AUGMENTATION, seed=1)[1]
    together = frozen.activations(images, moves)
    for row in (0, BATCH - 1, BATCH, COUNT - 1):
        alone = frozen.activations(images[row : row + 1], moves[row : row + 1])
        for cut in CUTS:
            np.testing.assert_allclose(together[cut][row], alone[cut][0], rtol=2e-3, atol=2e-3)


def test_one_cut_gives_the_same_alone_and_among_others(
    frozen: FrozenBackbone, images: np.ndarray, small: ModelConfig, imagenet: BackboneWeights
) -> None:
    moves = view_transforms(COUNT, 32, AUGMENTATION, seed=1)[1]
    alone = FrozenBackbone(["block_9"], small, imagenet).activations(images, moves)
    assert list(alone) == ["block_9"]
    np.testing.assert_allclose(alone["block_9"], frozen.activations(images, moves)["block_9"], rtol=2e-3, atol=2e-3)


def test_views_are_the_image_and_the_augmented_ones_of_the_profile() -> None:
    views = view_transforms(6, 96, AugmentationConfig(views=3), seed=1)
    assert (views.shape, views.dtype) == ((4, 6, 8), np.float32)
    np.testing.assert_array_equal(views[0], np.tile(np.array([1, 0, 0, 0, 1, 0, 0, 0], "float32"), (6, 1)))
    assert len(np.unique(views[1:].reshape(-1, 8), axis=0)) == 18


def test_views_depend_on_the_seed_alone() -> None:
    first, again, other = (view_transforms(6, 96, AUGMENTATION, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.isclose(first[1:, :, 2], other[1:, :, 2]).any()


def test_more_views_leave_the_first_ones_as_they_were() -> None:
    few, many = (view_transforms(6, 96, AugmentationConfig(views=views), seed=1) for views in (2, 5))
    np.testing.assert_array_equal(many[:3], few)


@pytest.mark.parametrize("count", [0, 1, 8 * BATCH, 8 * BATCH + 1, 1000])
def test_chunks_cover_every_image_once_and_in_order(count: int) -> None:
    rows = np.arange(count)
    parts = [rows[part] for part in chunks(count)]
    np.testing.assert_array_equal(np.concatenate([rows[:0], *parts]), rows)
    assert all(0 < len(part) <= 8 * BATCH for part in parts)


def test_a_batch_is_filled_up_with_its_own_rows() -> None:
    batch = np.array([[1, 2], [3, 4], [5, 6]])
    np.testing.assert_array_equal(pad(batch, 5), [[1, 2], [3, 4], [5, 6], [1, 2], [3, 4]])
    assert pad(batch, 3) is batch

import numpy as np
import pytest
from PIL import Image

from cxr_platform.config import AugmentationConfig
from cxr_platform.training.inputs import FrozenInputs, ImageInputs, clean_batch, gather


@pytest.fixture
def frozen() -> FrozenInputs:
    """Activations whose value tells view and row: 100 × view + row; five rows in chunks of two, two and one."""
    whole = 100 * np.arange(3)[:, None] + np.arange(5)[None, :]
    values = whole[..., None].astype("float16")
    return FrozenInputs([values[:, :2], values[:, 2:4], values[:, 4:]])


def test_clean_batches_of_activations_are_view_zero_in_the_given_order(frozen: FrozenInputs) -> None:
    (batch,) = clean_batch(frozen, np.array([4, 0, 2, 3]))
    assert batch[:, 0].tolist() == [4, 0, 2, 3]


def test_training_batches_draw_from_all_views_of_the_given_rows(frozen: FrozenInputs) -> None:
    rows = np.tile(np.arange(5), 40)
    (positions,) = frozen.training_index(rows, np.random.default_rng(0))
    values = gather(frozen.arrays, positions)[:, 0].astype(int)
    assert (values % 100 == rows).all()
    assert set(values // 100) == {0, 1, 2}


def test_image_batches_have_one_transform_per_image_and_clean_ones_the_identity() -> None:
    images = np.arange(4 * 10 * 10, dtype="uint8").reshape(4, 10, 10)
    inputs = ImageInputs(images, AugmentationConfig())
    positions, transforms = inputs.training_index(np.array([2, 1]), np.random.default_rng(0))
    assert (gather(inputs.arrays, positions) == images[[2, 1]]).all()
    assert transforms.shape == (2, 8)
    assert not np.allclose(transforms[0], transforms[1])
    batch, clean = clean_batch(inputs, np.array([3]))
    assert (batch == images[[3]]).all()
    assert np.allclose(clean, [[1, 0, 0, 0, 1, 0, 0, 0]])


def test_rows_are_gathered_from_several_arrays_as_from_one() -> None:
    whole = np.random.default_rng(0).integers(0, 255, (11, 2, 3))
    positions = np.array([10, 0, 3, 4, 4, 9])
    assert (gather([whole[:4], whole[4:5], whole[5:]], positions) == whole[positions]).all()


def test_images_are_resized_as_pillow_does() -> None:
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (3, 8, 8)).astype("uint8")
    images = np.stack([np.asarray(Image.fromarray(each).resize((96, 96), Image.Resampling.BICUBIC)) for each in coarse])
    smaller = ImageInputs(images, AugmentationConfig()).resized(64).arrays[0]
    expected = [np.asarray(Image.fromarray(each).resize((64, 64), Image.Resampling.LANCZOS)) for each in images]
    assert (smaller.shape, smaller.dtype) == ((3, 64, 64), np.uint8)
    assert np.abs(smaller.astype(int) - np.stack(expected)).max() <= 2


def test_activations_cannot_be_resized(frozen: FrozenInputs) -> None:
    with pytest.raises(ValueError, match="images to resize to 64 px"):
        frozen.resized(64)

import numpy as np
import pytest
from PIL import Image

from cxr_platform.config import AugmentationConfig
from cxr_platform.training import inputs as inputs_module
from cxr_platform.training.inputs import (
    FrozenInputs,
    ImageInputs,
    RecomputedInputs,
    clean_batch,
    gather,
    in_file_order,
    shuffled,
)


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


def test_images_whose_activations_are_computed_in_every_step_have_the_views_of_stored_ones() -> None:
    images = np.arange(4 * 10 * 10, dtype="uint8").reshape(4, 10, 10)
    transforms = np.arange(3 * 4 * 8, dtype="float32").reshape(3, 4, 8)
    inputs = RecomputedInputs(images, transforms)
    rows = np.array([2, 1, 2])
    positions, drawn = inputs.training_index(rows, np.random.default_rng(0))
    views = np.random.default_rng(0).integers(0, 3, 3)  # as `FrozenInputs` draws them
    assert (positions == rows).all()
    assert (drawn == transforms[views, rows]).all()
    batch, clean = clean_batch(inputs, rows)
    assert (batch == images[rows]).all()
    assert (clean == transforms[0, rows]).all()
    with pytest.raises(ValueError, match="images to resize to 64 px"):
        inputs.resized(64)


def test_activations_cannot_be_resized(frozen: FrozenInputs) -> None:
    with pytest.raises(ValueError, match="images to resize to 64 px"):
        frozen.resized(64)


def in_files(count: int, per_file: int) -> FrozenInputs:
    """Inputs as if they were in files of `per_file` images, in a random order."""
    rows = np.random.default_rng(3).permutation(count)
    chunks = [np.zeros((1, len(rows[at : at + per_file]), 1), "float16") for at in range(0, count, per_file)]
    return FrozenInputs(chunks, rows)


def test_in_memory_the_order_is_a_permutation_and_reading_needs_no_order(frozen: FrozenInputs) -> None:
    rows = np.array([4, 0, 3])
    expected = np.random.default_rng(5).permutation(rows)
    assert (shuffled(frozen, rows, np.random.default_rng(5)) == expected).all()
    assert in_file_order(frozen, rows).tolist() == [0, 1, 2]


def test_few_files_are_shuffled_as_in_memory() -> None:
    rows = np.arange(40)
    assert (
        shuffled(in_files(40, 10), rows, np.random.default_rng(5)) == np.random.default_rng(5).permutation(40)
    ).all()


def test_of_many_files_few_are_read_at_a_time_and_every_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs_module, "FILES_AT_ONCE", 4)
    inputs, rows = in_files(1000, 10), np.arange(0, 1000, 2)
    rng = np.random.default_rng(5)
    first, second = shuffled(inputs, rows, rng), shuffled(inputs, rows, rng)
    assert sorted(first) == sorted(second) == rows.tolist()
    assert (first != second).any()
    files = inputs.files(first)
    assert files is not None
    opened, closed = 0, set[int]()
    for at in range(0, len(files) - 10, 10):
        batch = set(files[at : at + 10].tolist())
        assert not batch & closed  # a file that was read to its end is not needed again in this epoch
        assert len(batch) > 1
        later = set(files[at + 10 :].tolist())
        opened = max(opened, len({*files[: at + 10].tolist()} & later))
        closed |= batch - later
    assert opened <= 2 * 4


def test_rows_are_predicted_file_by_file() -> None:
    inputs, rows = in_files(100, 10), np.arange(0, 100, 3)
    files = inputs.files(rows[in_file_order(inputs, rows)])
    assert files is not None
    assert (np.diff(files) >= 0).all()

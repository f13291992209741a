import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cxr_platform.config import AugmentationConfig
from cxr_platform.intake.letterbox import resize_images
from cxr_platform.manifest.schema import pixels_to_arrow
from cxr_platform.manifest.store import Manifest
from cxr_platform.storage.node_cache import FOLDER, NodeCache, cache_folder
from cxr_platform.training.image_files import ImageFile, manifest_images
from cxr_platform.training.inputs import ImageInputs

IMAGES = np.random.default_rng(0).integers(0, 256, (9, 64, 64)).astype("uint8")
STUDY = np.arange(9) % 3 > 0


class FourAtATime:
    """The part of a manifest that is read here."""

    content_hash = "0123456789abcdef" * 4
    pixel_batches = Manifest.pixel_batches

    def absolute(self) -> "FourAtATime":
        return self

    def batches(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        for start in range(0, len(IMAGES), 4):
            yield pa.table({columns[0]: pixels_to_arrow(IMAGES[start : start + 4])})


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageFile:
    monkeypatch.setenv(FOLDER, str(tmp_path / "cache"))
    return manifest_images(FourAtATime(), STUDY, 48, NodeCache())  # type: ignore[arg-type]


def test_the_images_are_those_of_the_study_at_the_size_of_the_network(stored: ImageFile) -> None:
    expected = resize_images(IMAGES[STUDY], 48)
    assert (len(stored), stored.shape, stored.nbytes) == (6, (6, 48, 48), 6 * 48 * 48)
    assert not cache_folder().exists()  # nothing is read before it is needed
    assert (stored[[4, 0]] == expected[[4, 0]]).all()
    assert (stored[1:3] == expected[1:3]).all()
    assert (np.asarray(stored) == expected).all()


def test_another_process_uses_the_same_file(stored: ImageFile) -> None:
    images = stored[:]
    (file,) = (path for path in cache_folder().iterdir() if path.suffix == ".npy")
    made = file.stat().st_ino
    again = pickle.loads(pickle.dumps(stored))
    assert (again[:] == images).all()
    assert len(pickle.dumps(stored)) < 2000
    assert file.stat().st_ino == made


def test_a_file_that_was_removed_is_made_again(stored: ImageFile) -> None:
    images = stored[:]
    for file in cache_folder().glob("*.npy"):
        file.unlink()
    assert (stored[:] == images).all()


def test_a_file_that_is_damaged_is_made_again(stored: ImageFile) -> None:
    images = stored[:]
    (file,) = cache_folder().glob("*.npy")
    for content in (file.read_bytes()[:-20], b""):
        file.write_bytes(content)
        assert (stored[:] == images).all()


def test_smaller_images_are_those_of_images_in_memory(stored: ImageFile) -> None:
    augmentation = AugmentationConfig()
    (smaller,) = ImageInputs(stored, augmentation).resized(32).arrays
    (expected,) = ImageInputs(stored[:], augmentation).resized(32).arrays
    assert smaller.shape == (6, 32, 32)
    assert (np.asarray(smaller) == np.asarray(expected)).all()
    assert smaller.identity != stored.identity  # type: ignore[union-attr]

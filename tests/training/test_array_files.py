from pathlib import Path

import numpy as np
import pytest

from cxr_platform.errors import StorageError
from cxr_platform.storage.node_cache import FOLDER, NodeCache
from cxr_platform.training.array_files import FileArray, write_array
from cxr_platform.training.inputs import gather
from tests.storage.object_store import folder

VALUES = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float16")


@pytest.fixture
def stored(tmp_path: Path) -> FileArray:
    write_array(tmp_path / "a.npy", VALUES)
    return FileArray(tmp_path / "a.npy", VALUES.shape, "float16", NodeCache())


def test_rows_are_those_of_the_array(stored: FileArray) -> None:
    assert (len(stored), stored.nbytes) == (2, VALUES.nbytes)
    assert (stored[[1, 0]] == VALUES[[1, 0]]).all()
    assert (stored[:1] == VALUES[:1]).all()
    assert (np.asarray(stored) == VALUES).all()


def test_the_same_values_in_another_shape(stored: FileArray) -> None:
    flat = stored.reshape(-1, 3)
    assert flat.shape == (10, 3)
    assert (flat[[9, 2]] == VALUES.reshape(-1, 3)[[9, 2]]).all()
    assert flat.identity != stored.identity


def test_batches_are_gathered_from_files_as_from_arrays(tmp_path: Path) -> None:
    parts = [VALUES.reshape(10, 3)[:4], VALUES.reshape(10, 3)[4:]]
    for number, part in enumerate(parts):
        write_array(tmp_path / f"{number}.npy", part)
    files = [FileArray(tmp_path / f"{n}.npy", part.shape, "float16", NodeCache()) for n, part in enumerate(parts)]
    positions = np.array([9, 0, 3, 4, 4])
    assert (gather(files, positions) == gather(parts, positions)).all()
    assert (gather(files[:1], positions[1:3]) == parts[0][[0, 3]]).all()


def test_what_was_read_can_be_changed_and_does_not_change_the_file(stored: FileArray) -> None:
    stored[:][:] = 0
    assert (stored[:] == VALUES).all()


def test_a_damaged_file_is_an_error_that_names_it(stored: FileArray) -> None:
    stored.file.write_bytes(stored.file.read_bytes()[:-20])
    with pytest.raises(StorageError, match=r"a\.npy.*Remove the file"):
        stored[[0]]


def test_an_array_of_another_type_is_damaged(stored: FileArray) -> None:
    write_array(stored.file, VALUES.view("int16"))
    with pytest.raises(StorageError, match=r"float16.*Received: an array of int16"):
        stored[[0]]


def test_the_bytes_of_a_file_are_known_before_it_is_written(stored: FileArray) -> None:
    assert stored.file_bytes == stored.file.stat().st_size


def test_a_copy_that_is_damaged_is_fetched_again(
    store: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path / "cache"))
    file = folder("arrays") / "a.npy"
    write_array(file, VALUES)
    array = FileArray(file, VALUES.shape, "float16", NodeCache())
    (copy,) = [array.cache.local(file, array.nbytes)]
    for content in (copy.read_bytes()[:-20], b""):
        copy.write_bytes(content)
        assert (array[:] == VALUES).all()
    file.write_bytes(copy.read_bytes()[:-20])
    copy.unlink()
    with pytest.raises(StorageError, match=rf"s3://.*a\.npy\. Received: .* in {copy}.*Remove the file"):
        array[[0]]
    write_array(file, VALUES)
    assert (array[:] == VALUES).all()


def test_an_absent_file_is_an_error_that_names_it(stored: FileArray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER, str(stored.file.parent / "cache"))
    stored.file.unlink()
    with pytest.raises(StorageError, match=r"a\.npy"):
        stored[[0]]

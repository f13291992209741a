import multiprocessing
import os
from pathlib import Path

import pytest

from cxr_platform.errors import RegistryError, StorageError
from cxr_platform.registry.files import read_bytes, size_and_sha256
from cxr_platform.storage.files import remove_leftovers, write_atomically

SPAWN = multiprocessing.get_context("spawn")


def die_before_the_rename(path: Path) -> None:
    Path.replace = lambda *_: os._exit(9)  # type: ignore[assignment, method-assign]
    write_atomically(path, b"new")


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "state"
    write_atomically(path, b"old")
    write_atomically(path, b"new")

    assert read_bytes(path, RegistryError) == b"new"
    assert size_and_sha256(path, RegistryError) == (
        3,
        "11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437",
    )
    assert names(tmp_path) == ["state"]


def test_a_crash_before_the_rename_leaves_the_old_file(tmp_path):
    path = tmp_path / "state"
    write_atomically(path, b"old")
    process = SPAWN.Process(target=die_before_the_rename, args=(path,))
    process.start()
    process.join(60)

    assert process.exitcode == 9
    assert path.read_bytes() == b"old"
    assert len(names(tmp_path)) == 2
    remove_leftovers(path)
    assert names(tmp_path) == ["state"]


def test_a_place_that_cannot_be_written_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="No such file"):
        write_atomically(tmp_path / "absent" / "state", b"")

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from cxr_platform.errors import RegistryError, StorageError
from cxr_platform.registry.files import locked, read_bytes, remove_partial, size_and_sha256
from cxr_platform.storage.files import write_atomically

SPAWN = multiprocessing.get_context("spawn")


def die_before_the_rename(path: Path) -> None:
    Path.replace = lambda *_: os._exit(9)  # type: ignore[assignment, method-assign]
    write_atomically(path, b"new")


def hold(path: Path, held: "multiprocessing.synchronize.Event") -> None:
    with locked(path, 10):
        held.set()
        time.sleep(60)


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
    remove_partial(path)
    assert names(tmp_path) == ["state"]


def test_a_place_that_cannot_be_written_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="No such file"):
        write_atomically(tmp_path / "absent" / "state", b"")
    with pytest.raises(StorageError, match=r"\.lock"), locked(tmp_path / "absent" / ".lock", 0):
        pass


def test_a_lock_that_another_process_keeps_is_an_error_and_dies_with_it(tmp_path):
    path, held = tmp_path / ".lock", SPAWN.Event()
    process = SPAWN.Process(target=hold, args=(path, held))
    process.start()
    assert held.wait(60)

    with pytest.raises(RegistryError, match=r"within 0\.1 s"), locked(path, 0.1):
        pass
    process.kill()
    with locked(path, 60):
        pass
    process.join(60)


def test_a_lock_is_free_again_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path / ".lock", 0):
        raise ZeroDivisionError
    with locked(tmp_path / ".lock", 0):
        pass

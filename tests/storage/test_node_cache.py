import os
from multiprocessing.pool import ThreadPool
from pathlib import Path

import pytest

from cxr_platform.domain.study import CacheUse
from cxr_platform.errors import ConfigError, StorageError
from cxr_platform.storage import node_cache
from cxr_platform.storage.node_cache import FOLDER, LIMIT, NodeCache, cache_folder, cache_use
from tests.storage.object_store import folder

KIB = 1 / 2**20


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path / "cache"))


def kept() -> set[str]:
    return {file.name for file in cache_folder().iterdir() if file.is_file() and not file.name.startswith(".")}


def write(content: bytes) -> object:
    return lambda target: target.write_bytes(content)


def test_a_file_is_made_once(tmp_path: Path) -> None:
    made = []

    def make(target: Path) -> None:
        made.append(target)
        target.write_bytes(b"x")

    first = NodeCache().made("a.npy", make, 1)
    assert (NodeCache().made("a.npy", make, 1), first.read_bytes(), len(made)) == (first, b"x", 1)
    assert first.parent == tmp_path / "cache"


def test_processes_that_need_a_file_at_the_same_time_wait_for_one_of_them() -> None:
    made = []

    def make(target: Path) -> None:
        made.append(target)
        target.write_bytes(b"x")

    with ThreadPool(8) as pool:
        files = pool.map(lambda _: NodeCache().made("a.npy", make, 1), range(8))
    assert (len(set(files)), len(made)) == (1, 1)


def test_a_file_that_could_not_be_made_leaves_nothing_behind() -> None:
    def fail(target: Path) -> None:
        target.write_bytes(b"half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        NodeCache().made("a.npy", fail, 1)
    assert kept() == set()
    assert not [file for file in cache_folder().iterdir() if file.is_file()]


def test_what_a_killed_process_left_is_removed_when_the_file_is_made() -> None:
    cache_folder().mkdir()
    (cache_folder() / ".a.npy.0123").write_bytes(bytes(1000))
    NodeCache().made("a.npy", write(b"x"), 1)
    assert [file.name for file in cache_folder().iterdir() if file.is_file()] == ["a.npy"]


def test_the_files_that_were_not_used_for_longest_are_removed_above_the_limit() -> None:
    cache = NodeCache(gib=2.5 * KIB)
    for age, name in enumerate("abc"):
        file = cache.made(name, write(bytes(1024)), 1024)
        os.utime(file, (1000 + age, 1000 + age))
        if name == "b":
            cache.made("a", write(b""), 0)  # used again, after b
    assert kept() == {"a", "c"}


def test_a_file_above_the_limit_is_kept_while_it_is_the_one_in_use() -> None:
    cache = NodeCache(gib=0.5 * KIB)
    assert cache.made("large", write(bytes(1024)), 1024).exists()


def test_by_default_the_files_take_at_most_half_of_what_would_be_free_without_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def used() -> int:
        return sum(file.stat().st_size for file in cache_folder().iterdir() if file.is_file())

    monkeypatch.setattr(node_cache, "free_bytes", lambda _: 1000 - used())  # a disk of 1,000 bytes
    for number in range(9):
        NodeCache().made(str(number), write(bytes(100)), 100)
        assert used() == min(100 * (number + 1), 500)
    assert NodeCache().limit == 500


def test_a_default_folder_that_another_user_made_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER)
    monkeypatch.setattr(node_cache.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = cache_folder()
    NodeCache().made("a", write(b"x"), 1)
    real = os.getuid
    monkeypatch.setattr(node_cache.os, "getuid", lambda: real() + 1)
    folder.rename(cache_folder())  # that user's folder, with our name
    with pytest.raises(StorageError, match=r"Expected .*cxr-cache-.* to be of user"):
        NodeCache().made("b", write(b"x"), 1)


def test_a_node_may_state_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT, "1.5")
    assert NodeCache().limit == 1.5 * 2**30
    assert NodeCache(gib=2.0).limit == 2.0 * 2**30  # the profile's
    for stated in ("much", "nan", "0", "-1"):
        monkeypatch.setenv(LIMIT, stated)
        with pytest.raises(ConfigError, match=f"CXR_CACHE_GIB.*{stated}"):
            _ = NodeCache().limit


def test_a_local_file_is_not_copied(tmp_path: Path) -> None:
    file = tmp_path / "a.npy"
    assert NodeCache().local(file, 5) is file


def test_a_file_of_an_object_store_is_copied_once(store: dict[str, str]) -> None:
    file = folder("cache") / "a.npy"
    file.write_bytes(b"first")
    copy = NodeCache().local(file, 5)
    file.write_bytes(b"second")
    assert NodeCache().local(file, 5) == copy
    assert copy.read_bytes() == b"first"
    assert copy.suffix == ".npy"


def test_an_absent_file_of_an_object_store_is_an_error_that_names_it(store: dict[str, str]) -> None:
    with pytest.raises(StorageError, match=r"cache/absent\.npy"):
        NodeCache().local(folder("cache") / "absent.npy", 5)


def test_hits_misses_bytes_and_evictions_of_this_process_are_counted(store: dict[str, str]) -> None:
    cache, before = NodeCache(gib=2.5 * KIB), cache_use()
    remote = folder("cache") / "counted.npy"
    remote.write_bytes(bytes(1024))
    for _ in range(3):
        cache.local(remote, 1024)
    assert cache_use() - before == CacheUse(hits=2, misses=1, fetched_bytes=1024)
    for name in "ab":
        cache.made(name, write(bytes(1000)), 1000)
    assert cache_use() - before == CacheUse(hits=2, misses=3, fetched_bytes=3024, evictions=1)


def test_a_file_that_could_not_be_made_is_no_miss() -> None:
    before = cache_use()
    with pytest.raises(ZeroDivisionError):
        NodeCache().made("a.npy", lambda _: [][1 // 0], 1)
    assert cache_use() == before


def test_room_is_made_before_a_file_is(monkeypatch: pytest.MonkeyPatch) -> None:
    cache, seen = NodeCache(gib=2.5 * KIB), []
    for name in "abc":
        cache.made(name, lambda target: seen.append(kept()) or target.write_bytes(bytes(1024)), 1024)  # type: ignore[func-returns-value]
    assert list(map(len, seen)) == [0, 1, 1]


def test_what_killed_processes_left_counts_and_is_removed_once_no_process_can_be_writing_it() -> None:
    cache_folder().mkdir()
    written, left = cache_folder() / ".written.0123", cache_folder() / ".left.0123"
    for file in (written, left):
        file.write_bytes(bytes(1024))
    os.utime(left, (1000, 1000))
    NodeCache(gib=3.5 * KIB).made("a", write(bytes(1024)), 1024)
    assert left.exists()
    NodeCache(gib=3.5 * KIB).made("b", write(bytes(1024)), 1024)
    assert not left.exists()
    NodeCache(gib=0.5 * KIB).made("c", write(bytes(1024)), 1024)
    assert (kept(), written.exists()) == ({"c"}, True)


def fill(target: Path) -> None:
    """Write as onto a full disk."""
    target.touch()
    Path("/dev/full").write_bytes(b"x")


def test_on_a_full_disk_the_oldest_files_make_room_and_the_file_is_made_once_more() -> None:
    NodeCache().made("old", write(bytes(1024)), 1024)
    tried = []

    def make(target: Path) -> None:
        tried.append(target)
        (fill if (cache_folder() / "old").exists() else write(b"x"))(target)  # type: ignore[operator]

    assert NodeCache().made("a", make, 100).read_bytes() == b"x"
    assert (len(tried), kept()) == (2, {"a"})


def test_a_full_disk_is_an_error_that_names_the_file_of_the_cache(
    store: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StorageError, match=r"able to write .*/cache/a\.npy.*No space left"):
        NodeCache().made("a.npy", fill, 1)
    remote, fetched = folder("cache") / "a.npy", []
    remote.write_bytes(b"x")

    def get_file(_: str, target: str) -> None:
        fetched.append(target)
        fill(Path(target))

    monkeypatch.setattr(remote.fs, "get_file", get_file)  # type: ignore[attr-defined]
    with pytest.raises(StorageError, match=r"able to write .*/cache/.*No space left"):
        NodeCache().local(remote, 1)
    assert len(fetched) == 2


def test_a_file_in_place_of_the_folder_is_an_error_that_names_it() -> None:
    cache_folder().write_text("")
    for use in (lambda: NodeCache().made("a.npy", write(b"x"), 1), lambda: NodeCache().limit):  # type: ignore[arg-type]
        with pytest.raises(StorageError, match=r"/cache.*(Not a directory|File exists)"):
            use()


def test_a_file_that_only_its_owner_may_change_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    file = NodeCache().made("a.npy", write(b"x"), 1)

    def denied(_: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(node_cache.os, "utime", denied)
    assert NodeCache().made("a.npy", fill, 1) == file
    monkeypatch.setattr(node_cache.os, "access", lambda *_: False)
    with pytest.raises(StorageError, match=r"a\.npy"):
        NodeCache().made("a.npy", fill, 1)


def test_a_damaged_file_is_removed_if_it_is_one_of_the_cache(tmp_path: Path) -> None:
    file, other = NodeCache().made("a.npy", write(b"x"), 1), tmp_path / "a.npy"
    other.write_bytes(b"x")
    assert (NodeCache().remove(file), NodeCache().remove(file), NodeCache().remove(other)) == (True, True, False)
    assert (file.exists(), other.exists()) == (False, True)

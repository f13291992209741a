import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import cxr_platform
from cxr_platform.config import DecodingConfig, IntakeConfig, SelectionConfig
from cxr_platform.errors import StorageError
from cxr_platform.manifest.cache import (
    DECODING_MODULES,
    SHARDS_IN_MEMORY,
    DecodedCache,
    PixelReader,
    settings_key,
    sources_hash,
    write_shard,
)
from cxr_platform.storage.paths import parse_path
from tests.manifest.builders import image, refused, store
from tests.storage.failing_store import answers_with_errors, errors_left, failing_store

INTAKE = Path(cxr_platform.__file__).parent / "intake"


@pytest.fixture
def cache(tmp_path: Path) -> DecodedCache:
    return DecodedCache(tmp_path, "key")


def test_records_and_images_come_back_as_they_were_stored(cache: DecodedCache) -> None:
    records = store(cache, {"s/a.png": image(1), "s/b.png": image(2)})
    assert list(cache.load().values()) == records
    assert np.array_equal(PixelReader(cache, 200).images(records[::-1]), [image(2), image(1)])


def test_a_refusal_is_cached_but_not_that_a_file_could_not_be_opened(cache: DecodedCache) -> None:
    records = [refused("s/a.png"), refused("s/b.png", "unreadable")]
    write_shard(cache.folder, records, np.zeros((2, 200, 200), np.uint8))
    assert [(key.source_path, record.reason) for key, record in cache.load().items()] == [("s/a.png", "not-an-image")]


def test_a_record_is_for_one_size_and_time_of_change(cache: DecodedCache) -> None:
    (record,) = store(cache, {"s/a.png": image(1)})
    assert record.key in cache.load()
    assert record.key._replace(mtime_ns=1) not in cache.load()
    assert record.key._replace(size=1) not in cache.load()


def test_shards_that_are_no_longer_used_are_removed(cache: DecodedCache, tmp_path: Path) -> None:
    (used,) = store(cache, {"s/a.png": image(1)})
    store(cache, {"s/b.png": image(2)})
    (cache.folder / "half.parquet.partial").write_text("PAR1")
    DecodedCache(tmp_path, "0123456789abcdef")
    cache.prune([used])
    assert list(cache.load()) == [used.key]
    assert [file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*")] == ["key", f"key/{used.shard}"]


def test_a_truncated_shard_is_removed_and_its_files_decoded_again(cache: DecodedCache) -> None:
    (record,) = store(cache, {"s/a.png": image(1)})
    file = cache.folder / record.shard
    file.write_bytes(file.read_bytes()[:1000])
    assert cache.load() == {}
    assert not file.exists()


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), PermissionError("Forbidden"), OSError(5, "EIO")]
)
def test_a_shard_that_cannot_be_read_at_the_moment_is_kept(
    cache: DecodedCache, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    (record,) = store(cache, {"s/a.png": image(1)})
    with monkeypatch.context() as patched:
        patched.setattr(pq, "read_table", refuse)
        with pytest.raises(StorageError, match=record.shard):
            cache.load()
    assert len(cache.load()) == 1


def test_a_shard_that_disappears_during_the_build_is_an_error(cache: DecodedCache) -> None:
    (record,) = store(cache, {"s/a.png": image(1)})
    (cache.folder / record.shard).unlink()
    with pytest.raises(StorageError, match=r"decoded images in .* Remove .*decoded again"):
        PixelReader(cache, 200).images([record])


def test_the_number_of_shards_in_memory_is_limited(cache: DecodedCache) -> None:
    records = [record for number in range(9) for record in store(cache, {f"s/{number}.png": image(number)})]
    reader = PixelReader(cache, 200)
    assert np.array_equal(reader.images(records), [image(number) for number in range(9)])
    assert len(reader._open) == SHARDS_IN_MEMORY


def test_settings_that_change_pixels_or_patients_have_their_own_cache() -> None:
    keys = [
        settings_key(IntakeConfig(), "salt"),
        settings_key(IntakeConfig(DecodingConfig(image_size=96)), "salt"),
        settings_key(IntakeConfig(selection=SelectionConfig(find_crops=False)), "salt"),
        settings_key(IntakeConfig(), "other"),
    ]
    assert len(set(keys)) == 4


def test_the_decoding_code_is_part_of_the_settings_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = settings_key(IntakeConfig(), "salt")
    monkeypatch.setattr("cxr_platform.manifest.cache.version", "another {}".format)
    assert settings_key(IntakeConfig(), "salt") != before


def test_every_change_of_a_decoding_module_changes_the_hash_of_the_sources(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(INTAKE, tmp_path / "intake"))
    hashes = [sources_hash(INTAKE)]
    assert sources_hash(copy) == hashes[0]
    for module in DECODING_MODULES:
        with (copy / f"{module}.py").open("a") as file:
            file.write("# changed\n")
        hashes.append(sources_hash(copy))
    assert len(set(hashes)) == len(DECODING_MODULES) + 1


def imported(module: str) -> set[str]:
    """Modules of `intake` that one of them imports."""
    names = set(re.findall(r"from cxr_platform\.intake\.([\w.]+) import", (INTAKE / f"{module}.py").read_text()))
    return {name.replace(".", "/") for name in names}


def test_the_decoding_modules_are_all_that_decoding_imports() -> None:
    reached, new = set(), {"images", "duplicates", "keypoints"}
    while new:
        reached |= new
        new = {name for module in new for name in imported(module)} - reached
    assert reached == set(DECODING_MODULES)


def test_foreign_folders_beside_the_shards_are_not_removed(cache: DecodedCache, tmp_path: Path) -> None:
    (tmp_path / "photographs").mkdir()
    cache.prune([])
    assert (tmp_path / "photographs").is_dir()


def test_a_cache_in_an_object_store_returns_the_stored_records_and_images(tmp_path: Path) -> None:
    cache = DecodedCache(parse_path(f"memory://{tmp_path.name}/cache"), "0123456789abcdef")
    (record,) = store(cache, {"s/a.png": image(1)})
    assert cache.load() == {record.key: record}
    assert (PixelReader(cache, 200).images([record])[0] == image(1)).all()
    cache.prune([])
    assert cache.load() == {}


def test_a_cache_in_a_store_that_answers_with_errors_for_a_while_is_written_and_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer with an error in place of a listing would mean that everything is decoded again."""
    monkeypatch.setattr("cxr_platform.storage.retry.FIRST_PAUSE_SECONDS", 0.001)
    with failing_store(tmp_path.name) as place:
        cache = DecodedCache(place, "key")
        for errors in (1, 2, 3):
            answers_with_errors(errors)
            (record,) = store(cache, {"s/a.png": image(1)})
            assert errors_left() == 0
            answers_with_errors(errors)
            assert cache.load() == {record.key: record}
            answers_with_errors(errors)
            assert (PixelReader(cache, 200).images([record])[0] == image(1)).all()


def test_what_is_not_needed_any_more_may_stay_where_nothing_may_be_removed(tmp_path: Path) -> None:
    with failing_store(tmp_path.name, may_remove=False) as place:
        cache = DecodedCache(place, "key")
        (record,) = store(cache, {"s/a.png": image(1)})
        cache.prune([])
        assert cache.load() == {record.key: record}

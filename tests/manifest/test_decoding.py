"""With a real Ray instance: what is decoded, where it is kept, and files that do harm."""

import os
import resource
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pytest

from cxr_platform.cluster import connection
from cxr_platform.errors import ConfigError, StorageError
from cxr_platform.intake.candidate import Candidate
from cxr_platform.intake.sources import find_candidates
from cxr_platform.manifest.build import build_manifest
from cxr_platform.manifest.cache import DecodedCache, PixelReader, settings_key
from cxr_platform.manifest.decoding import DIED, DecodeTask, decode_files, decode_new
from cxr_platform.manifest.patient_ids import patient_salt
from cxr_platform.manifest.records import Decoded, FileKey
from cxr_platform.manifest.store import Manifest
from cxr_platform.progress import NoProgress
from cxr_platform.storage import retry
from cxr_platform.storage.paths import parse_path
from tests.manifest.builders import candidate, image, listed, profile, save
from tests.recorded_progress import RecordedProgress
from tests.storage.failing_store import answers_with_errors, errors_left, failing_store
from tests.storage.object_store import folder

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with connection():
        yield


@dataclass(frozen=True)
class Deadly(DecodeTask):
    """Dies on one file, as a decoder in C does on hostile bytes."""

    def _decode(self, row: dict[str, Any], pixels: np.ndarray) -> Decoded:
        if row["source_path"].endswith("deadly.png"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._decode(row, pixels)


def files_in(folder: Path, names: list[str]) -> list[tuple[Candidate, FileKey]]:
    candidates = [candidate(f"s/{name}", path=save(image(number), folder / name)) for number, name in enumerate(names)]
    return [(one, FileKey(one.source_path, 1, number)) for number, one in enumerate(candidates)]


def test_ray_builds_the_same_manifest_as_this_process(built: Manifest, collection: Path, tmp_path: Path) -> None:
    manifest = build_manifest(collection, tmp_path / "manifest", profile())
    assert manifest.content_hash == built.content_hash
    assert np.array_equal(manifest.pixels(), built.pixels())


def test_a_file_on_which_the_process_dies_is_excluded_and_the_others_are_decoded(tmp_path: Path) -> None:
    cache = DecodedCache(tmp_path, "key")
    files = files_in(tmp_path / "images", [*(f"{i}.png" for i in range(20)), "deadly.png"])
    blocks = decode_files(files, Deadly(profile().intake, "salt", cache.folder))
    records = {record.key.source_path: record for block in blocks for record in block}
    assert records.pop("s/deadly.png").reason == "undecodable"
    assert {record.reason for record in records.values()} == {None}
    assert np.array_equal(PixelReader(cache, 200).images([records["s/7.png"]])[0], image(7))


@dataclass(frozen=True)
class Hopeless(DecodeTask):
    """Dies whatever it is given, as where the package is not installed on the nodes."""

    def _decode(self, row: dict[str, Any], pixels: np.ndarray) -> Decoded:
        os.kill(os.getpid(), signal.SIGKILL)
        return super()._decode(row, pixels)


def test_a_file_that_kills_its_process_is_not_tried_again(tmp_path: Path) -> None:
    cache = DecodedCache(tmp_path, "key")
    candidates = [one for one, _ in files_in(tmp_path / "images", ["deadly.png"])]
    task = Deadly(profile().intake, "salt", cache.folder)
    first = decode_new(candidates, cache, task, NoProgress())  # the only new file, as when it is added to a collection
    assert (first["s/deadly.png"].reason, first["s/deadly.png"].detail) == ("undecodable", DIED)
    progress = RecordedProgress()
    assert decode_new(candidates, cache, task, progress) == first
    assert progress.messages == ["Images: 0 to decode, 1 from the cache"]
    assert not PixelReader(cache, 200).images([first["s/deadly.png"]]).any()


def test_workers_that_fail_on_every_file_are_an_error_and_exclude_no_image(tmp_path: Path) -> None:
    cache = DecodedCache(tmp_path, "key")
    with pytest.raises(ConfigError, match="Ray's workers"):
        list(decode_files(files_in(tmp_path / "images", ["0.png"]), Hopeless(profile().intake, "salt", cache.folder)))
    assert list(cache.folder.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    files = files_in(tmp_path / "images", ["0.png"])
    with pytest.raises(StorageError, match=r"able to write .*nowhere"):
        list(decode_files(files, DecodeTask(profile().intake, "salt", tmp_path / "nowhere")))


def test_a_cache_that_has_become_a_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    files = files_in(tmp_path / "images", ["0.png"])
    with pytest.raises(StorageError, match=r"able to write .*cache.*Not a directory"):
        list(decode_files(files, DecodeTask(profile().intake, "salt", tmp_path / "cache")))


@dataclass(frozen=True)
class Full(DecodeTask):
    """Its process cannot write a byte while one of the images is decoded, as where the disk of that node is full."""

    def __call__(self, block: pa.Table) -> pa.Table:
        if not any(path.endswith("unlucky.png") for path in block["source_path"].to_pylist()):
            return super().__call__(block)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        try:
            return super().__call__(block)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_shard_that_cannot_be_written_is_an_error_and_excludes_no_image(tmp_path: Path) -> None:
    cache = DecodedCache(tmp_path, "key")
    files = files_in(tmp_path / "images", [*(f"{i}.png" for i in range(4)), "unlucky.png"])
    with pytest.raises(StorageError, match=r"able to write .*key.*File too large.*Make room"):
        list(decode_files(files, Full(profile().intake, "salt", cache.folder)))
    assert "s/unlucky.png" not in {key.source_path for key in cache.load()}


@dataclass(frozen=True)
class Reaching(DecodeTask):
    """Its process has this environment, as where the cluster was started with it."""

    environment: dict[str, str]

    def _read(self, path: Path, size: int) -> bytes:
        os.environ.update(self.environment)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        retry.RETRY_SECONDS = 0.0
        return super()._read(parse_path(str(path)), size)


def test_a_store_that_is_lost_while_images_are_read_is_an_error_and_excludes_no_image(
    store: dict[str, str], tmp_path: Path
) -> None:
    cache = DecodedCache(tmp_path, "key")
    images = folder("decoding/images")
    (images / "0.png").write_bytes(save(image(0), tmp_path / "0.png").read_bytes())
    unreachable = {**store, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    files = [(candidate("s/0.png", path=images / "0.png"), FileKey("s/0.png", 1, 0))]
    with pytest.raises(StorageError, match=r"able to read s3://.*0\.png.*connect.*run the same command again"):
        list(decode_files(files, Reaching(profile().intake, "salt", cache.folder, unreachable)))
    assert cache.load() == {}


def test_a_store_that_answers_with_errors_for_a_while_excludes_no_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.001)
    with failing_store(tmp_path.name) as place:
        (place / "0.png").write_bytes(save(image(0), tmp_path / "0.png").read_bytes())
        cache, row = DecodedCache(place, "key"), {"path": os.fsencode(f"{place}/0.png"), "source": "s"}
        key = FileKey("s/0.png", 1, 0)
        answers_with_errors(3)
        DecodeTask(profile().intake, "salt", cache.folder)(pa.Table.from_pylist([{**row, **key._asdict()}]))
        assert errors_left() == 0
        (record,) = cache.load().values()
        assert (PixelReader(cache, 200).images([record])[0] == image(0)).all()


def test_an_image_that_was_removed_from_a_store_is_unreadable(store: dict[str, str], tmp_path: Path) -> None:
    cache = DecodedCache(tmp_path, "key")
    gone = candidate("s/gone.png", path=folder("decoding/gone") / "gone.png")
    outcome = decode_new([gone], cache, Reaching(profile().intake, "salt", cache.folder, store), NoProgress())
    assert [record.reason for record in outcome.values()] == ["unreadable"]


def test_an_absent_file_and_a_file_that_is_no_image_are_excluded_with_a_reason(tmp_path: Path) -> None:
    cache = DecodedCache(tmp_path, "key")
    candidates = [candidate("s/gone.png"), listed("s/gone-too.png", "view")]
    task = DecodeTask(profile().intake, "salt", cache.folder)
    outcome = decode_new(candidates, cache, task, NoProgress())
    assert {record.reason for record in outcome.values()} == {"unreadable"}
    assert cache.load() == {}


def test_after_a_file_is_added_only_that_one_is_decoded(built: Manifest, collection: Path, tmp_path: Path) -> None:
    data = shutil.copytree(collection, tmp_path / "data")
    root = shutil.copytree(built.folder.with_name("manifest.cache"), tmp_path / "cache")
    save(image(1000), data / "classes" / "Edema" / "new.png")
    cache = DecodedCache(root, settings_key(profile().intake, patient_salt()))
    task, progress = DecodeTask(profile().intake, patient_salt(), cache.folder), RecordedProgress()
    outcome = decode_new(find_candidates(data, profile().intake.selection).candidates, cache, task, progress)
    assert progress.messages == [f"Images: 1 to decode, {built.info.files} from the cache"]
    assert len(outcome) == built.info.files + 1

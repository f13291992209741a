import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cxr_platform.errors import ManifestError, StorageError
from cxr_platform.intake.letterbox import resize_images
from cxr_platform.manifest.schema import content_hash, manifest_schema
from cxr_platform.manifest.store import Manifest, open_manifest, write_images
from cxr_platform.storage.paths import parse_path
from tests.manifest.builders import image
from tests.storage.failing_store import answers_with_errors, errors_left, failing_store


@pytest.fixture
def copy(built: Manifest, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built.folder, tmp_path / "manifest"))


def test_known_patients_are_counted_by_source(built: Manifest) -> None:
    assert built.known_patients() == {"classes": 0, "cohen": 2} == built.info.known_patients


def test_a_manifest_is_read_by_columns_and_images_in_the_order_of_source_path(built: Manifest) -> None:
    manifest = open_manifest(built.folder)
    assert manifest.schema == manifest_schema(200)
    paths = manifest.table(["source_path"])["source_path"].to_pylist()
    assert paths == sorted(paths)
    images = manifest.pixels()
    assert images.shape == (len(paths), 200, 200)
    assert np.array_equal(images[paths.index("classes/Covid19/image-2.png")], image(2))


def test_all_columns_but_the_pixels_are_the_default(built: Manifest) -> None:
    assert built.table().column_names == [name for name in manifest_schema(200).names if name != "pixels"]


def test_an_unknown_column_is_an_error(built: Manifest) -> None:
    with pytest.raises(ManifestError, match=r"Expected columns of the manifest.*Received: colour"):
        built.table(["label", "colour"])


def test_the_files_are_read_without_this_package(built: Manifest) -> None:
    table = pq.read_table(built.folder / "images")
    assert table["pixels"].type == pa.fixed_shape_tensor(pa.uint8(), [200, 200])
    assert len(table) == built.info.images


def test_images_are_written_one_file_at_a_time(
    tmp_path: Path, built: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cxr_platform.manifest.store.ROWS_PER_FILE", 10)
    asked = []

    def pixels(start: int, stop: int) -> np.ndarray:
        asked.append((start, stop))
        return np.full((stop - start, 200, 200), start, np.uint8)

    rows = built.table().slice(0, 25)
    write_images(tmp_path, rows, pixels, 200)
    assert asked == [(0, 10), (10, 20), (20, 25)]
    again = Manifest(tmp_path, built.info)
    assert again.table() == rows
    assert again.pixels()[:, 0, 0].tolist() == [0] * 10 + [10] * 10 + [20] * 5
    some = np.arange(25) % 5 == 1
    assert again.pixels(some)[:, 0, 0].tolist() == [0] * 2 + [10] * 2 + [20]
    smaller = built.pixels(side=64)
    assert smaller.shape == (len(built.pixels()), 64, 64)
    assert (smaller == resize_images(built.pixels(), 64)).all()


def test_a_manifest_is_found_from_another_working_directory(built: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(built.folder.parent)
    here = open_manifest(Path(built.folder.name)).absolute()
    monkeypatch.chdir("/")
    assert here.table(["image_id"]) == built.table(["image_id"])


def test_the_content_hash_ignores_the_order_of_rows_and_the_last_digits(built: Manifest) -> None:
    rows = built.table()
    assert content_hash(rows.sort_by([("label", "descending")])) == built.content_hash
    means = rows["mean"].to_numpy()
    position = rows.column_names.index("mean")
    nearly = rows.set_column(position, "mean", pa.array(means + 1e-9, pa.float32()))
    other = rows.set_column(position, "mean", pa.array(means + 1e-3, pa.float32()))
    assert content_hash(nearly) == built.content_hash != content_hash(other)


def test_the_error_for_no_manifest_says_how_to_build_one(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"no such folder.*make manifest"):
        open_manifest(tmp_path / "nothing")
    with pytest.raises(ManifestError, match=r"without manifest\.json"):
        open_manifest(tmp_path)


def test_an_object_store_that_does_not_answer_is_not_mistaken_for_one_without_a_manifest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def silent(*_: object, **__: object) -> None:
        raise ConnectionError("no answer")

    folder = parse_path("memory://store/manifest")
    with pytest.raises(ManifestError, match="no such folder"):
        open_manifest(folder)
    monkeypatch.setattr("cxr_platform.storage.retry.RETRY_SECONDS", 0.0)
    monkeypatch.setattr(type(folder.fs), "open", silent)  # type: ignore[attr-defined]
    with pytest.raises(StorageError, match=r"able to read .*manifest\.json.*no answer"):
        open_manifest(folder)


def test_a_manifest_of_an_older_platform_without_outside_images_is_read(copy: Path) -> None:
    info = json.loads((copy / "manifest.json").read_text())
    del info["outside"]
    (copy / "manifest.json").write_text(json.dumps(info))
    assert open_manifest(copy).info.outside == {}


def test_another_schema_version_is_refused(copy: Path) -> None:
    info = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**info, "schema_version": 99}))
    with pytest.raises(ManifestError, match=r"expected schema_version 2\. Received: 99\. A newer platform wrote it"):
        open_manifest(copy)


def test_a_setting_that_this_version_does_not_know_is_an_error(copy: Path) -> None:
    info = json.loads((copy / "manifest.json").read_text())
    info["config"]["decoding"]["image_sise"] = 200
    (copy / "manifest.json").write_text(json.dumps(info))
    with pytest.raises(ManifestError, match=r"config\.decoding: expected one of the keys.*Did you mean 'image_size'"):
        open_manifest(copy)


def test_a_damaged_manifest_json_is_refused(copy: Path) -> None:
    (copy / "manifest.json").write_text("{")
    with pytest.raises(ManifestError, match="Expected JSON"):
        open_manifest(copy)


def test_missing_or_damaged_files_are_noticed_on_opening(copy: Path) -> None:
    (part,) = (copy / "images").iterdir()
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(ManifestError, match="expected Parquet files with"):
        open_manifest(copy)
    part.unlink()
    with pytest.raises(ManifestError, match="Received: 0 rows"):
        open_manifest(copy)


def test_damaged_pages_are_noticed_on_reading_and_the_error_names_the_file(copy: Path) -> None:
    (part,) = (copy / "images").iterdir()
    place = pq.read_metadata(part).row_group(0).column(0).dictionary_page_offset
    content = bytearray(part.read_bytes())
    content[place : place + 200] = bytes(200)
    part.write_bytes(content)
    manifest = open_manifest(copy)  # the footer is sound
    for read in (manifest.table, lambda: list(manifest.batches([manifest.schema.names[0]]))):
        with pytest.raises(ManifestError, match=r"expected Parquet files.*part-00000\.parquet"):
            read()


def test_a_manifest_that_may_not_be_read_is_not_one_to_build_again(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    manifest = open_manifest(copy)
    monkeypatch.setattr(pq, "read_table", refuse)
    with pytest.raises(StorageError, match=r"able to read .*part-00000\.parquet.*Permission denied"):
        manifest.table()


@pytest.mark.parametrize("errors", [1, 2, 3, 4])
def test_a_manifest_in_a_store_that_answers_with_errors_for_a_while_is_opened_and_read(
    built: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, errors: int
) -> None:
    monkeypatch.setattr("cxr_platform.storage.retry.FIRST_PAUSE_SECONDS", 0.001)
    with failing_store(tmp_path.name) as store:
        for file in built.folder.rglob("*"):
            if file.is_file():
                (store / file.relative_to(built.folder).as_posix()).write_bytes(file.read_bytes())
        answers_with_errors(errors)
        manifest = open_manifest(store)
        assert errors_left() == 0
        answers_with_errors(errors)
        assert manifest.table() == built.table()
        assert errors_left() == 0
        parts = []
        for part in manifest.batches(["label"]):
            parts.append(part)
            answers_with_errors(errors)
        assert pa.concat_tables(parts)["label"].to_pylist() == built.table(["label"])["label"].to_pylist()


def test_a_store_that_stays_away_while_a_manifest_is_read_is_not_a_damaged_manifest(
    built: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cxr_platform.storage.retry.RETRY_SECONDS", 0.0)
    with failing_store(tmp_path.name) as store:
        for name in ("manifest.json", "images/part-00000.parquet"):
            (store / name).write_bytes((built.folder / name).read_bytes())
        manifest = open_manifest(store)
        answers_with_errors(10**6)
        for read in (lambda: open_manifest(store), manifest.rows, manifest.table, lambda: list(manifest.batches([]))):
            with pytest.raises(StorageError, match=r"able to read .*503"):
                read()

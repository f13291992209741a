import csv
import hashlib
from collections import Counter
from pathlib import Path

import pytest

from cxr_platform.errors import ConfigError, SourceError, StorageError
from cxr_platform.intake.layouts.phantoms import COLUMNS, IMAGES_FOLDER
from cxr_platform.intake.phantoms import collection
from cxr_platform.intake.phantoms.collection import TASK, VERSION, write_collection
from cxr_platform.intake.phantoms.plan import plan_flaws, plan_images
from cxr_platform.labels import CLASSES
from cxr_platform.progress import NoProgress
from cxr_platform.validation import read_toml
from tests.intake.phantoms.conftest import SMALL


class Steps(NoProgress):
    """Keeps the steps that are reported."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, int, int]] = []

    def step(self, task: str, done: int, total: int) -> None:
        self.steps.append((task, done, total))


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "images.csv").open(newline="") as table:
        return list(csv.DictReader(table))


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_the_same_arguments_give_the_same_bytes(small_collection: Path, tmp_path: Path):
    again = write_collection(tmp_path / "new", **SMALL)
    assert digests(again) == digests(small_collection / "phantoms")


def test_several_processes_give_the_same_bytes(
    small_collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection, "FILES_PER_PROCESS", 1)
    assert digests(write_collection(tmp_path, **SMALL)) == digests(small_collection / "phantoms")


def test_a_larger_collection_holds_the_same_images(small_collection: Path, tmp_path: Path):
    smaller = digests(write_collection(tmp_path, 1, SMALL["seed"], SMALL["size"]))
    larger = digests(small_collection / "phantoms")
    shared = {f"{IMAGES_FOLDER}/{image.name}" for image in plan_images(1, SMALL["seed"])}
    assert shared <= smaller.keys() & larger.keys()
    assert all(smaller[name] == larger[name] for name in shared)


def test_the_table_lists_all_images_except_the_unlisted_one(small_collection: Path):
    table = rows(small_collection / "phantoms")
    names = {path.name for path in (small_collection / "phantoms" / IMAGES_FOLDER).iterdir()}
    (unlisted,) = names - {row["filename"] for row in table}
    assert unlisted in {flaw.name for flaw in plan_flaws(4, SMALL["seed"]) if flaw.flaw == "unlisted"}
    assert tuple(table[0]) == COLUMNS
    good = {image.name for image in plan_images(4, SMALL["seed"])}
    counts = Counter(row["label"] for row in table if row["filename"] in good)
    assert counts == dict.fromkeys(CLASSES, 4)


def test_the_repeated_image_is_the_same_file_twice(small_collection: Path):
    (copy,) = [image for image in plan_images(4, SMALL["seed"]) if image.copy == "exact"]
    images = small_collection / "phantoms" / IMAGES_FOLDER
    assert (images / copy.name).read_bytes() == (images / copy.original.name).read_bytes()


def test_the_marker_states_that_the_images_are_synthetic(small_collection: Path):
    marker = read_toml(small_collection / "phantoms" / "PHANTOMS.toml")
    assert marker["synthetic"] is True
    assert (marker["version"], marker["seed"], marker["per_class"], marker["size"]) == (VERSION, 3, 4, 128)
    assert marker["files"] == 4 * 7 + 7


def test_nothing_is_left_beside_the_collection(small_collection: Path):
    assert [path.name for path in small_collection.iterdir()] == ["phantoms"]


def test_a_complete_collection_is_kept(small_collection: Path):
    before = times(small_collection)
    progress = Steps()
    write_collection(small_collection, **SMALL, progress=progress)
    assert times(small_collection) == before
    assert progress.steps == []


def test_other_arguments_or_a_missing_image_draw_it_again(tmp_path: Path):
    folder = write_collection(tmp_path, 1, 0, 128)
    before = digests(folder)
    next((folder / IMAGES_FOLDER).iterdir()).unlink()
    assert digests(write_collection(tmp_path, 1, 0, 128)) == before
    assert digests(write_collection(tmp_path, 1, 1, 128)).keys() != before.keys()
    assert [path.name for path in tmp_path.iterdir()] == ["phantoms"]


def test_progress_counts_every_file(tmp_path: Path):
    progress = Steps()
    write_collection(tmp_path, 1, 0, 128, progress=progress)
    assert progress.steps == [(TASK, i, 14) for i in range(1, 15)]


def test_a_folder_with_other_files_is_refused_and_kept(tmp_path: Path):
    (tmp_path / "phantoms").mkdir()
    (tmp_path / "phantoms" / "thesis.txt").write_text("mine")
    with pytest.raises(SourceError, match="Choose another folder"):
        write_collection(tmp_path, 1, 0, 128)
    assert (tmp_path / "phantoms" / "thesis.txt").read_text() == "mine"


def test_a_place_that_cannot_be_written_is_a_storage_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"able to write .*phantoms"):
        write_collection(tmp_path / "file" / "below", 1, 0, 128)


def test_a_failure_keeps_the_old_collection(tmp_path: Path):
    before = digests(write_collection(tmp_path, 1, 0, 128))

    class DiskFull(NoProgress):
        def step(self, task: str, done: int, total: int) -> None:
            raise OSError(28, "No space left on device", f"{task}: {done}/{total}")

    with pytest.raises(StorageError, match="No space left"):
        write_collection(tmp_path, 1, 1, 128, progress=DiskFull())
    assert digests(tmp_path / "phantoms") == before
    assert [path.name for path in tmp_path.iterdir()] == ["phantoms"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0, 0, 320), "per_class: expected greater than or equal to 1"),
        ((1, -1, 320), "seed: expected greater than or equal to 0"),
        ((1, 0, 100), "size: expected greater than or equal to 128"),
        ((1, 0, 2000), "size: expected less than or equal to 1024"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, text: str, tmp_path: Path):
    with pytest.raises(ConfigError, match=text):
        write_collection(tmp_path, *arguments)
    assert not list(tmp_path.iterdir())

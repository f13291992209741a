from contextlib import nullcontext
from pathlib import Path

import pytest
from cxr_platform.manifest.place import INFO_FILE, Place, place_of

from cxr_platform.errors import StorageError
from cxr_platform.manifest import place as place_module
from cxr_platform.storage import files, lock
from cxr_platform.storage.files import file_names, write_errors
from cxr_platform.storage.paths import parse_path
from tests.storage import object_store


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A place with a manifest that says `old`."""
    place = Place(tmp_path / "manifest")
    place.destination.mkdir()
    (place.destination / INFO_FILE).write_text("old")
    return place


def build(place: Place, text: str = "new") -> None:
    with place.build() as folder:
        (folder / INFO_FILE).write_text(text)
        place.publish()


def says(place: Place) -> str:
    return (place.readable() / INFO_FILE).read_text()


def test_a_build_replaces_the_manifest_and_leaves_nothing_else(place: Place) -> None:
    build(place)
    assert says(place) == "new"
    assert {p.name for p in place.destination.parent.iterdir()} == {"manifest", "manifest.cache"}


def fail(place: Place) -> None:
    with place.build() as folder:
        (folder / INFO_FILE).write_text("new")
        raise ZeroDivisionError


def test_a_build_that_fails_leaves_the_manifest_as_it_was(place: Place) -> None:
    with pytest.raises(ZeroDivisionError):
        fail(place)
    assert says(place) == "old"
    assert not place.building.exists()


def test_a_rejected_manifest_is_kept_aside(place: Place) -> None:
    for text in ("bad", "worse"):
        with place.build() as folder:
            (folder / INFO_FILE).write_text(text)
            place.reject()
    assert says(place) == "old"
    assert (place.failed / INFO_FILE).read_text() == "worse"


def test_killed_between_the_two_renames_the_old_manifest_is_still_read_and_put_back(place: Place) -> None:
    place.destination.rename(place.previous)
    place.building.mkdir()
    assert says(place) == "old"
    with pytest.raises(ZeroDivisionError):
        fail(place)
    assert (place.destination / INFO_FILE).read_text() == "old"


def test_killed_after_the_second_rename_the_new_manifest_stands(place: Place) -> None:
    place.previous.mkdir()
    (place.previous / INFO_FILE).write_text("older")
    assert says(place) == "old"
    build(place)
    assert says(place) == "new"
    assert not place.previous.exists()


def test_two_builds_of_one_manifest_at_once_are_refused(place: Place) -> None:
    with place.build(), pytest.raises(StorageError, match="no other process"), place.build():
        pass


def test_a_folder_with_other_files_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(StorageError, match="other files"):
        build(Place(tmp_path / "home"))
    assert (tmp_path / "home" / "letter.txt").read_text() == "dear"


@pytest.mark.parametrize("kind", ["previous", "building", "failed", "cache"])
def test_a_folder_beside_it_that_no_build_has_made_is_not_removed(place: Place, kind: str) -> None:
    sibling = place.destination.with_name(f"manifest.{kind}")
    sibling.mkdir()
    (sibling / "letter.txt").write_text("dear")
    with pytest.raises(StorageError, match=rf"manifest\.{kind} to be of an earlier build.*other files"):
        build(place)
    assert (sibling / "letter.txt").read_text() == "dear"
    assert says(place) == "old"


def test_what_an_interrupted_build_left_is_removed(place: Place) -> None:
    (place.building / "images").mkdir(parents=True)
    (place.cache / "0123456789abcdef").mkdir(parents=True)
    build(place)
    assert says(place) == "new"
    assert not place.building.exists()


def test_a_file_in_place_of_the_manifest_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("dear")
    with pytest.raises(StorageError, match=r"notes to be of an earlier build.*a file"):
        build(Place(tmp_path / "notes"))
    assert (tmp_path / "notes").read_text() == "dear"


def test_a_full_disk_is_told_with_the_place(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match=r"able to write .*manifest.*No space left"),
        write_errors(tmp_path / "manifest"),
    ):
        Path("/dev/full").write_text("x")


def test_what_is_raised_while_building_is_not_taken_for_a_fault_of_the_place(place: Place) -> None:
    with pytest.raises(ConnectionError), place.build():
        raise ConnectionError
    assert says(place) == "old"


@pytest.fixture
def stored(tmp_path: Path) -> Place:
    """A place in an object store with a manifest that says `old`."""
    place = place_of(parse_path(f"memory://{tmp_path.name}/manifest"))
    (place.destination / INFO_FILE).write_text("old")
    (place.destination / "images" / "part-00007.parquet").write_text("old")
    return place


def test_in_a_store_a_build_replaces_the_manifest_and_what_was_of_it(stored: Place) -> None:
    with stored.build() as folder:
        assert folder.is_dir()
        assert says(stored) == "old"
        (folder / "images").mkdir()
        (folder / "images" / "part-00000.parquet").write_text("new")
        (folder / INFO_FILE).write_text("new")
        stored.publish()
    assert says(stored) == "new"
    assert file_names(stored.destination) == ["images/part-00000.parquet", INFO_FILE]
    assert file_names(stored.destination.with_name("manifest.building")) == []
    assert not folder.exists()


def test_in_a_store_an_upload_that_fails_leaves_the_manifest_as_it_was(
    stored: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(file: Path, target: Path) -> None:
        raise ConnectionError("the store has gone")

    with monkeypatch.context() as patched, stored.build() as folder:
        (folder / INFO_FILE).write_text("new")
        patched.setattr(files, "upload_file", cut)
        with pytest.raises(StorageError, match=r"able to write .*manifest.*has gone"):
            stored.publish()
    assert says(stored) == "old"
    assert file_names(stored.destination) == ["images/part-00007.parquet", INFO_FILE]
    build(stored)
    assert says(stored) == "new"


@pytest.mark.parametrize("moment", ["before the upload", "before the copy"])
def test_in_a_store_a_build_that_lost_the_place_meanwhile_replaces_nothing(
    stored: Place, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    checks = [] if moment == "before the upload" else [None]

    def check() -> None:
        if not checks:
            raise StorageError("Expected to hold it until the end of the work.")
        checks.pop()

    monkeypatch.setattr(place_module, "folder_lock", lambda _folder: nullcontext(check))
    with pytest.raises(StorageError, match="until the end"):
        build(stored)
    assert says(stored) == "old"


def test_in_a_store_that_copies_by_itself_the_manifest_arrives_whole(store: dict[str, str]) -> None:
    place = place_of(object_store.folder("manifest-place/manifest"))
    for text in ("old", "new"):
        build(place, text)
        assert says(place) == text
    assert object_store.names(object_store.folder("manifest-place")) == [f"manifest/{INFO_FILE}"]


@pytest.mark.parametrize("kind", ["building", "failed"])
def test_in_a_store_a_folder_beside_it_that_no_build_has_made_is_not_replaced(stored: Place, kind: str) -> None:
    sibling = stored.destination.with_name(f"manifest.{kind}")
    (sibling / "letter.txt").write_text("dear")
    with pytest.raises(StorageError, match=rf"manifest\.{kind} to be of an earlier build"), stored.build():
        pass
    assert (sibling / "letter.txt").read_text() == "dear"


def test_in_a_store_a_build_that_fails_leaves_the_manifest_as_it_was(stored: Place) -> None:
    with pytest.raises(ZeroDivisionError):
        fail(stored)
    assert says(stored) == "old"
    with stored.build() as folder:
        (folder / INFO_FILE).write_text("bad")
        stored.reject()
    assert says(stored) == "old"
    assert (stored.failed / INFO_FILE).read_text() == "bad"


def test_in_a_store_other_files_are_not_replaced(stored: Place) -> None:
    (stored.destination / "letter.txt").write_text("dear")
    with pytest.raises(StorageError, match="other files"), stored.build():
        pass
    assert (stored.destination / "letter.txt").read_text() == "dear"


def test_in_a_store_two_builds_at_once_are_refused(stored: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "RENEWAL_SECONDS", 0.1)
    with stored.build(), pytest.raises(StorageError, match="no other process"), stored.build():
        pass

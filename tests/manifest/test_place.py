from pathlib import Path

import pytest

from cxr_platform.errors import StorageError
from cxr_platform.manifest.place import INFO_FILE, Place


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
    with place.build(), pytest.raises(StorageError, match="still running"), place.build():
        pass


def test_a_folder_with_other_files_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(StorageError, match="other files"):
        build(Place(tmp_path / "home"))
    assert (tmp_path / "home" / "letter.txt").read_text() == "dear"


def test_a_full_disk_is_told_with_the_place(place: Place) -> None:
    with pytest.raises(StorageError, match=r"able to write .*manifest.*No space left"), place.build():
        Path("/dev/full").write_text("x")
    assert says(place) == "old"

from contextlib import nullcontext
from pathlib import Path

import pytest

from cxr_platform.errors import StorageError
from cxr_platform.manifest import folders as folders_module
from cxr_platform.manifest.folders import COUNTS_FILE, INFO_FILE, ManifestFolders, manifest_folders
from cxr_platform.storage import files, lock
from cxr_platform.storage.files import file_names, write_errors
from cxr_platform.storage.paths import parse_path
from tests.storage import object_store
from tests.storage.failing_store import answers_with_errors, errors_left, failing_store


@pytest.fixture
def folders(tmp_path: Path) -> ManifestFolders:
    """The folders of a manifest whose manifest.json is `old`."""
    folders = ManifestFolders(tmp_path / "manifest")
    folders.destination.mkdir()
    (folders.destination / INFO_FILE).write_text("old")
    return folders


def build(folders: ManifestFolders, text: str = "new") -> None:
    with folders.build() as folder:
        (folder / INFO_FILE).write_text(text)
        folders.publish()


def content(folders: ManifestFolders) -> str:
    return (folders.readable() / INFO_FILE).read_text()


def test_a_build_replaces_the_manifest_and_leaves_nothing_else(folders: ManifestFolders) -> None:
    build(folders)
    assert content(folders) == "new"
    assert {p.name for p in folders.destination.parent.iterdir()} == {"manifest", "manifest.cache"}


def fail(folders: ManifestFolders) -> None:
    with folders.build() as folder:
        (folder / INFO_FILE).write_text("new")
        raise ZeroDivisionError


def test_a_build_that_fails_leaves_the_manifest_as_it_was(folders: ManifestFolders) -> None:
    with pytest.raises(ZeroDivisionError):
        fail(folders)
    assert content(folders) == "old"
    assert not folders.building.exists()


def test_a_rejected_manifest_is_kept_for_inspection(folders: ManifestFolders) -> None:
    for text in ("bad", "worse"):
        with folders.build() as folder:
            (folder / INFO_FILE).write_text(text)
            folders.reject()
    assert content(folders) == "old"
    assert (folders.failed / INFO_FILE).read_text() == "worse"


def test_after_a_crash_between_the_two_renames_the_old_manifest_is_read_and_restored(folders: ManifestFolders) -> None:
    folders.destination.rename(folders.previous)
    folders.building.mkdir()
    assert content(folders) == "old"
    with pytest.raises(ZeroDivisionError):
        fail(folders)
    assert (folders.destination / INFO_FILE).read_text() == "old"


def test_after_a_crash_following_the_second_rename_the_new_manifest_is_read(folders: ManifestFolders) -> None:
    folders.previous.mkdir()
    (folders.previous / INFO_FILE).write_text("older")
    assert content(folders) == "old"
    build(folders)
    assert content(folders) == "new"
    assert not folders.previous.exists()


def test_two_builds_of_one_manifest_at_once_are_refused(folders: ManifestFolders) -> None:
    with folders.build(), pytest.raises(StorageError, match=r"the manifest .*another --out"), folders.build():
        pass


def test_a_folder_with_other_files_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(StorageError, match="other files"):
        build(ManifestFolders(tmp_path / "home"))
    assert (tmp_path / "home" / "letter.txt").read_text() == "dear"


@pytest.mark.parametrize("kind", ["previous", "building", "failed", "cache"])
def test_a_sibling_folder_that_no_build_has_made_is_not_removed(folders: ManifestFolders, kind: str) -> None:
    sibling = folders.destination.with_name(f"manifest.{kind}")
    sibling.mkdir()
    (sibling / "letter.txt").write_text("dear")
    with pytest.raises(StorageError, match=rf"manifest\.{kind} to be of an earlier build.*other files"):
        build(folders)
    assert (sibling / "letter.txt").read_text() == "dear"
    assert content(folders) == "old"


def test_leftovers_of_an_interrupted_build_are_removed(folders: ManifestFolders) -> None:
    (folders.building / "images").mkdir(parents=True)
    (folders.cache / "0123456789abcdef").mkdir(parents=True)
    build(folders)
    assert content(folders) == "new"
    assert not folders.building.exists()


def test_a_file_in_place_of_the_manifest_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("dear")
    with pytest.raises(StorageError, match=r"notes to be of an earlier build.*a file"):
        build(ManifestFolders(tmp_path / "notes"))
    assert (tmp_path / "notes").read_text() == "dear"


def test_a_full_disk_is_an_error_that_names_the_folder(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match=r"able to write .*manifest.*No space left"),
        write_errors(tmp_path / "manifest"),
    ):
        Path("/dev/full").write_text("x")


def test_an_exception_of_the_build_itself_is_not_turned_into_a_storage_error(folders: ManifestFolders) -> None:
    with pytest.raises(ConnectionError), folders.build():
        raise ConnectionError
    assert content(folders) == "old"


@pytest.fixture
def stored(tmp_path: Path) -> ManifestFolders:
    """As `folders`, in an object store."""
    folders = manifest_folders(parse_path(f"memory://{tmp_path.name}/manifest"))
    (folders.destination / INFO_FILE).write_text("old")
    (folders.destination / "images" / "part-00007.parquet").write_text("old")
    return folders


def test_in_a_store_a_build_replaces_every_file_of_the_manifest(stored: ManifestFolders) -> None:
    with stored.build() as folder:
        assert folder.is_dir()
        assert content(stored) == "old"
        (folder / "images").mkdir()
        (folder / "images" / "part-00000.parquet").write_text("new")
        (folder / INFO_FILE).write_text("new")
        stored.publish()
    assert content(stored) == "new"
    assert file_names(stored.destination) == ["images/part-00000.parquet", INFO_FILE]
    assert file_names(stored.destination.with_name("manifest.building")) == []
    assert not folder.exists()


def test_in_a_store_an_upload_that_fails_leaves_the_manifest_as_it_was(
    stored: ManifestFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(file: Path, target: Path) -> None:
        raise ConnectionError("the store has gone")

    with monkeypatch.context() as patched, stored.build() as folder:
        (folder / INFO_FILE).write_text("new")
        patched.setattr(files, "upload_file", cut)
        with pytest.raises(StorageError, match=r"able to write .*manifest.*has gone"):
            stored.publish()
    assert content(stored) == "old"
    assert file_names(stored.destination) == ["images/part-00007.parquet", INFO_FILE]
    build(stored)
    assert content(stored) == "new"


def test_a_store_that_answers_with_errors_for_a_while_gets_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cxr_platform.storage.retry.FIRST_PAUSE_SECONDS", 0.001)
    with failing_store(tmp_path.name) as store:
        folders = manifest_folders(store / "manifest")
        for errors in range(8):
            with folders.build() as folder:
                (folder / "images").mkdir()
                (folder / "images" / f"part-0000{errors}.parquet").write_text("new")
                (folder / INFO_FILE).write_text(f"after {errors} errors")
                answers_with_errors(errors)
                folders.publish()
                assert errors_left() == 0
            assert content(folders) == f"after {errors} errors"
            assert file_names(folders.destination) == [f"images/part-0000{errors}.parquet", INFO_FILE]


def test_a_manifest_is_published_where_nothing_may_be_removed(tmp_path: Path) -> None:
    with failing_store(tmp_path.name, may_remove=False) as store:
        folders = manifest_folders(store / "manifest")
        build(folders)
        assert content(folders) == "new"


@pytest.mark.parametrize("moment", ["before the upload", "before the copy"])
def test_in_a_store_a_build_that_lost_the_lock_replaces_nothing(
    stored: ManifestFolders, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    checks = [] if moment == "before the upload" else [None]

    def check() -> None:
        if not checks:
            raise StorageError("Expected to hold it until the end of the work.")
        checks.pop()

    monkeypatch.setattr(folders_module, "folder_lock", lambda *_: nullcontext(check))
    with pytest.raises(StorageError, match="until the end"):
        build(stored)
    assert content(stored) == "old"


def test_in_an_s3_store_the_manifest_arrives_complete(store: dict[str, str]) -> None:
    folders = manifest_folders(object_store.folder("manifest-place/manifest"))
    for text in ("old", "new"):
        build(folders, text)
        assert content(folders) == text
    assert object_store.names(object_store.folder("manifest-place")) == [f"manifest/{INFO_FILE}"]


@pytest.mark.parametrize("kind", ["building", "failed"])
def test_in_a_store_a_sibling_folder_that_no_build_has_made_is_not_replaced(stored: ManifestFolders, kind: str) -> None:
    sibling = stored.destination.with_name(f"manifest.{kind}")
    (sibling / "letter.txt").write_text("dear")
    with pytest.raises(StorageError, match=rf"manifest\.{kind} to be of an earlier build"), stored.build():
        pass
    assert (sibling / "letter.txt").read_text() == "dear"


@pytest.mark.parametrize("where", ["folders", "stored"])
def test_a_folder_for_the_look_that_holds_other_files_is_refused_before_the_build(
    where: str, request: pytest.FixtureRequest
) -> None:
    folders: ManifestFolders = request.getfixturevalue(where)
    folders.looked_at.mkdir(parents=True)
    (folders.looked_at / "letter.txt").write_text("dear")
    begun = False
    with pytest.raises(StorageError, match=r"manifest\.look to be of an earlier build"), folders.build():
        begun = True
    assert not begun
    assert (folders.looked_at / "letter.txt").read_text() == "dear"


@pytest.mark.parametrize("where", ["folders", "stored"])
def test_a_look_is_kept_beside_the_manifest(where: str, request: pytest.FixtureRequest) -> None:
    folders: ManifestFolders = request.getfixturevalue(where)
    for text in ("first", "second"):
        with folders.build() as folder:
            (folder / COUNTS_FILE).write_text(text)
            folders.keep_look()
    assert content(folders) == "old"
    assert (folders.looked_at / COUNTS_FILE).read_text() == "second"


def test_in_a_store_a_build_that_fails_leaves_the_manifest_as_it_was(stored: ManifestFolders) -> None:
    with pytest.raises(ZeroDivisionError):
        fail(stored)
    assert content(stored) == "old"
    with stored.build() as folder:
        (folder / INFO_FILE).write_text("bad")
        stored.reject()
    assert content(stored) == "old"
    assert (stored.failed / INFO_FILE).read_text() == "bad"


def test_in_a_store_other_files_are_not_replaced(stored: ManifestFolders) -> None:
    (stored.destination / "letter.txt").write_text("dear")
    with pytest.raises(StorageError, match="other files"), stored.build():
        pass
    assert (stored.destination / "letter.txt").read_text() == "dear"


def test_in_a_store_two_builds_at_once_are_refused(stored: ManifestFolders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "RENEWAL_SECONDS", 0.1)
    with stored.build(), pytest.raises(StorageError, match=r"the manifest .*another --out"), stored.build():
        pass

import json
from pathlib import Path

import pytest

from cxr_platform.errors import StorageError
from cxr_platform.storage import files
from cxr_platform.storage.files import (
    move_folder,
    new_folder,
    read_errors,
    remove,
    replace_folder,
    upload_file,
    write_atomically,
    write_errors,
    write_json,
)
from cxr_platform.storage.paths import parse_path
from tests.storage.object_store import folder, names


def test_writing_json_replaces_the_file_and_leaves_no_other(tmp_path: Path) -> None:
    for number in (1, 2):
        write_json(tmp_path / "new" / "facts.json", {"number": number})
    assert json.loads((tmp_path / "new" / "facts.json").read_text()) == {"number": 2}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["facts.json"]


def test_a_file_can_be_kept_from_other_users(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for mode in (0o666, 0o600):
        write_atomically(path, b"x", mode)
        assert path.stat().st_mode & 0o777 & ~mode == 0


def test_a_folder_replaces_an_older_one_completely(tmp_path: Path) -> None:
    for name, content in (("final", "old"), (".partial", "new")):
        (tmp_path / name).mkdir()
        (tmp_path / name / content).write_text(content)
    replace_folder(tmp_path / ".partial", tmp_path / "final")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["final", "final/new"]


def test_a_folder_that_cannot_be_renamed_leaves_the_older_one(tmp_path: Path) -> None:
    (tmp_path / "final").mkdir()
    (tmp_path / "final" / "old").write_text("x")
    with pytest.raises(StorageError, match=r"write .*final.*No such file"):
        replace_folder(tmp_path / "absent", tmp_path / "final")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["final", "final/old"]


def test_a_folder_is_never_moved_over_another_one(tmp_path: Path) -> None:
    for name in ("new", "final"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text("x")
    with pytest.raises(StorageError, match=r"write .*final.*not empty"):
        move_folder(tmp_path / "new", tmp_path / "final")
    assert (tmp_path / "final" / "final").exists()


def test_remote_only_passes_the_errors_of_a_local_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), read_errors(tmp_path / "absent", remote_only=True):
        (tmp_path / "absent").read_bytes()
    with pytest.raises(StorageError, match=r"read .*absent.*No such file"), read_errors(tmp_path / "absent"):
        (tmp_path / "absent").read_bytes()


def test_remote_only_passes_an_absent_file_of_a_store_and_nothing_else() -> None:
    file = parse_path("memory://test-files/file")
    for error in (ConnectionResetError(), RuntimeError("closed")):
        with pytest.raises(StorageError, match=r"read memory://test-files/file"), read_errors(file, remote_only=True):
            raise error
    with pytest.raises(FileNotFoundError), read_errors(file, remote_only=True):
        raise FileNotFoundError
    with pytest.raises(StorageError), read_errors(file):
        raise FileNotFoundError


def test_an_error_of_the_system_names_the_path_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"write .*place.*No space left.*Make room"), write_errors(Path("place")):
        raise OSError(28, "No space left on device")


def test_a_folder_that_could_not_be_filled_leaves_the_older_one(tmp_path: Path) -> None:
    with new_folder(tmp_path / "final", "facts.json") as filled:
        (filled / "facts.json").write_text("1")
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "final", "facts.json") as filled:  # noqa: PT012
        (filled / "facts.json").write_text("2")
        raise ZeroDivisionError
    assert (tmp_path / "final" / "facts.json").read_text() == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_in_a_store_the_marker_of_a_folder_is_written_last(
    store: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    final = folder("files/final")
    monkeypatch.setattr(
        files, "upload_file", lambda file, target: (written.append(target.name), upload_file(file, target))
    )
    with new_folder(final, "facts.json") as filled:
        (filled / "deep").mkdir()
        for name in ("a", "facts.json", "z", "deep/b"):
            (filled / name).write_text(name)
    assert names(final) == ["a", "deep/b", "facts.json", "z"]
    assert len(written) == 4
    assert written[-1] == "facts.json"
    remove(final)
    assert not final.exists()


def test_a_store_that_does_not_answer_is_an_error_that_names_the_path(store: dict[str, str]) -> None:
    with pytest.raises(StorageError, match="s3://no-such-bucket"):
        write_atomically(parse_path("s3://no-such-bucket/x"), b"x")

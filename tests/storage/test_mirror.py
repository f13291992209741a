from pathlib import Path

import pytest
from botocore.exceptions import EndpointConnectionError

from cxr_platform.errors import StorageError
from cxr_platform.storage import mirror
from cxr_platform.storage.mirror import local_copy
from cxr_platform.storage.paths import parse_path
from tests.storage.object_store import folder, names


def test_a_local_folder_is_not_copied(tmp_path: Path) -> None:
    with local_copy(tmp_path) as copy:
        assert copy is tmp_path


def test_changes_in_the_copy_and_no_others_are_applied_to_the_store(store: dict[str, str]) -> None:
    study = folder("mirror/study")
    for name in ("keep", "change", "drop", "deep/keep"):
        (study / name).write_text(name)
    with local_copy(study, lambda file: file != "unwanted") as copy:
        assert copy.name == "study"
        (study / "meanwhile").write_text("by another process")
        (copy / "change").write_text("changed")
        (copy / "drop").unlink()
        (copy / "report").mkdir()
        (copy / "report" / "index.html").write_text("new")
    assert not copy.exists()
    assert names(study) == ["change", "deep/keep", "keep", "meanwhile", "report/index.html"]
    assert (study / "change").read_text() == "changed"


def test_only_wanted_files_are_copied(store: dict[str, str]) -> None:
    study = folder("mirror/wanted")
    for name in ("small", "trials/large"):
        (study / name).write_text(name)
    with local_copy(study, lambda file: not file.startswith("trials/")) as copy:
        assert [path.name for path in copy.rglob("*")] == ["small"]
    assert names(study) == ["small", "trials/large"]


def test_changes_before_an_error_are_kept(store: dict[str, str]) -> None:
    study = folder("mirror/error")
    with pytest.raises(ZeroDivisionError), local_copy(study) as copy:  # noqa: PT012
        copy.mkdir()
        (copy / "done").write_text("x")
        raise ZeroDivisionError
    assert names(study) == ["done"]


def test_a_file_that_is_removed_after_it_was_listed_is_left_out(
    store: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = folder("mirror/busy")
    (study / "stays").write_text("x")
    monkeypatch.setattr(mirror, "file_names", lambda _: ["deep/went", "stays"])
    with local_copy(study) as copy:
        assert [path.name for path in copy.rglob("*") if path.is_file()] == ["stays"]


def test_a_store_that_cannot_be_read_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> list[str]:
        raise EndpointConnectionError(endpoint_url="http://store")

    monkeypatch.setattr(mirror, "file_names", fail)
    with pytest.raises(StorageError, match=r"able to read .*away"), local_copy(parse_path("memory://mirror/away")):
        pass

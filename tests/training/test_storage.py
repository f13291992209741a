import json
from pathlib import Path

import pytest

from cxr_platform.errors import StorageError
from cxr_platform.training.storage import put_in_place, storage_errors, write_json


def test_json_takes_the_place_of_what_was_there_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    for number in (1, 2):
        write_json(tmp_path / "new" / "facts.json", {"number": number})
    assert json.loads((tmp_path / "new" / "facts.json").read_text()) == {"number": 2}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["facts.json"]


def test_a_folder_takes_the_place_of_an_older_one_as_a_whole(tmp_path: Path) -> None:
    for name, content in (("final", "old"), (".partial", "new")):
        (tmp_path / name).mkdir()
        (tmp_path / name / content).write_text(content)
    put_in_place(tmp_path / ".partial", tmp_path / "final")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["final", "final/new"]


def test_an_error_of_the_system_names_the_place_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"write .*place.*No space left.*Make room"), storage_errors(Path("place")):
        raise OSError(28, "No space left on device")

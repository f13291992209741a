import json
import subprocess
import sys
from pathlib import Path

import pytest

from cxr_platform.errors import StorageError
from cxr_platform.storage import lock
from cxr_platform.storage.lock import exclusive
from cxr_platform.storage.place import place


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "RENEWAL_SECONDS", 0.1)
    monkeypatch.setattr(lock, "ABANDONED_SECONDS", 0.5)


@pytest.fixture(params=["folder", "store"])
def held_place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / "study" if request.param == "folder" else place(f"memory://{tmp_path.name}/study")


def test_a_second_one_is_refused_while_the_first_lives_and_not_after(held_place: Path) -> None:
    with exclusive(held_place):
        with pytest.raises(StorageError, match=r"nobody else.*study"), exclusive(held_place):
            pass
        with pytest.raises(StorageError), exclusive(held_place):
            pass
    with exclusive(held_place):
        pass


def test_it_is_free_again_after_an_error(held_place: Path) -> None:
    with pytest.raises(ZeroDivisionError), exclusive(held_place):
        raise ZeroDivisionError
    with exclusive(held_place):
        pass


def test_a_lease_that_nobody_renews_is_taken_over() -> None:
    where = place("memory://test-lock/abandoned")
    (where / lock.FILE).write_text(json.dumps({"holder": "dead", "node": "gone", "count": 7}))
    with exclusive(where):
        assert json.loads((where / lock.FILE).read_text())["holder"] != "dead"
    assert not (where / lock.FILE).exists()


def test_a_lock_in_a_folder_dies_with_its_process(tmp_path: Path) -> None:
    held = "from pathlib import Path\nfrom cxr_platform.storage.lock import exclusive\nimport sys\n" + (
        "with exclusive(Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", held, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(StorageError), exclusive(tmp_path):
            pass
        process.kill()
    with exclusive(tmp_path):
        pass

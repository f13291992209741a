import errno
import fcntl
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from botocore.exceptions import EndpointConnectionError

from cxr_platform.errors import StorageError
from cxr_platform.storage import lock
from cxr_platform.storage.lock import exclusive, holding
from cxr_platform.storage.place import place
from tests.storage.object_store import folder
from tests.waiting import wait_until


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


def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(StorageError, match=rf"with locks for {tmp_path}.*No locks available.*flock"),
        lock.exclusive(tmp_path),
    ):
        pass


def is_lost(check: lock.Check) -> bool:
    try:
        check()
    except StorageError:
        return True
    return False


def unreachable(*_: object) -> None:
    raise EndpointConnectionError(endpoint_url="http://store")


def test_a_store_that_does_not_answer_for_a_moment_does_not_end_the_renewing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, tried = place(f"memory://{tmp_path.name}/moment"), threading.Event()
    with holding(where) as check:
        with monkeypatch.context() as broken:
            broken.setattr(lock, "_content", lambda file: (tried.set(), unreachable(file)))
            assert tried.wait(30)
        before = json.loads((where / lock.FILE).read_text())["count"]
        wait_until(lambda: json.loads((where / lock.FILE).read_text())["count"] > before)
        check()


def test_who_finds_another_holder_leaves_it_alone_and_says_so_at_the_end(tmp_path: Path) -> None:
    where = place(f"memory://{tmp_path.name}/taken")
    other = json.dumps({"holder": "another", "node": "there", "count": 1})
    with pytest.raises(StorageError, match="until the end of the work"), holding(where) as check:  # noqa: PT012
        (where / lock.FILE).write_text(other)
        wait_until(lambda: is_lost(check))
    assert (where / lock.FILE).read_text() == other


def test_who_was_cut_off_for_too_long_has_lost_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = place(f"memory://{tmp_path.name}/off")
    with monkeypatch.context() as broken:
        broken.setattr(lock._Lease, "_renew_once", unreachable)
        with pytest.raises(StorageError, match="until the end"), exclusive(where):
            time.sleep(lock.ABANDONED_SECONDS * 1.5)
    with exclusive(where):
        pass


def test_an_error_of_the_work_is_told_and_not_that_the_lease_was_lost(tmp_path: Path) -> None:
    where = place(f"memory://{tmp_path.name}/error")
    with pytest.raises(ZeroDivisionError), holding(where) as check:  # noqa: PT012
        (where / lock.FILE).write_text(json.dumps({"holder": "another"}))
        wait_until(lambda: is_lost(check))
        raise ZeroDivisionError


def test_who_writes_slowly_waits_as_long_for_another_who_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where, write = place(f"memory://{tmp_path.name}/slow"), lock._Lease._write

    def slowly(lease: lock._Lease, mode: str = "overwrite") -> None:
        write(lease, mode)
        time.sleep(0.4)

    monkeypatch.setattr(lock._Lease, "_write", slowly)
    other = threading.Timer(0.6, (where / lock.FILE).write_text, [json.dumps({"holder": "another"})])
    other.start()
    with pytest.raises(StorageError, match="same moment"), exclusive(where):
        pass
    other.join()


def test_a_store_that_refuses_to_write_over_a_file_decides_who_was_first(store: dict[str, str]) -> None:
    file = folder("lock/first") / lock.FILE
    first = lock._Lease(file)
    first.take(left_behind=False)
    with pytest.raises(StorageError, match="same moment"):
        lock._Lease(file).take(left_behind=False)
    assert (lock._content(file) or {}).get("holder") == first._holder
    first.give_back()
    assert not file.exists()


def test_a_store_that_cannot_refuse_is_written_to_as_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where, write = place(f"memory://{tmp_path.name}/simple"), lock._Lease._write

    def refuse(lease: lock._Lease, mode: str = "overwrite") -> None:
        if mode == "create":
            raise OSError(errno.ENOSYS, "NotImplemented")
        write(lease, mode)

    monkeypatch.setattr(lock._Lease, "_write", refuse)
    with exclusive(where):
        assert (where / lock.FILE).exists()

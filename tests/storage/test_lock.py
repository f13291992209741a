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
from cxr_platform.storage import lock, retry
from cxr_platform.storage.lock import file_lock, folder_lock
from cxr_platform.storage.paths import parse_path
from tests.clock import stopped_clock
from tests.storage.object_store import folder
from tests.waiting import wait_until


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "RENEWAL_SECONDS", 0.1)
    monkeypatch.setattr(retry, "RETRY_SECONDS", 0.1)


@pytest.fixture(params=["folder", "store"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / "study" if request.param == "folder" else parse_path(f"memory://{tmp_path.name}/study")


def test_a_second_holder_is_refused_until_the_first_ends(path: Path) -> None:
    with folder_lock(path):
        with pytest.raises(StorageError, match=r"no other process.*study"), folder_lock(path):
            pass
        with pytest.raises(StorageError), folder_lock(path):
            pass
    with folder_lock(path):
        pass


def test_the_error_says_what_is_locked_and_what_to_do(path: Path) -> None:
    with (
        folder_lock(path),
        pytest.raises(StorageError, match=r"work on the registry\. Received: .* holds .*\. Try later\.$"),
        folder_lock(path, "the registry", "Try later."),
    ):
        pass


def test_a_lock_is_free_again_after_an_error(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), folder_lock(path):
        raise ZeroDivisionError
    with folder_lock(path):
        pass


def test_a_lease_that_is_not_renewed_is_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    where = parse_path("memory://test-lock/abandoned")
    (where / lock.LOCK_FILE).write_text(json.dumps({"holder": "dead", "node": "gone", "count": 7}))
    usual = lock.ABANDONED_SECONDS
    monkeypatch.setattr(lock, "ABANDONED_SECONDS", 0.5)
    with folder_lock(where):
        monkeypatch.setattr(lock, "ABANDONED_SECONDS", usual)  # of the lease that is held now
        assert json.loads((where / lock.LOCK_FILE).read_text())["holder"] != "dead"
    assert not (where / lock.LOCK_FILE).exists()


def test_a_file_lock_ends_with_its_process(tmp_path: Path) -> None:
    held = "from pathlib import Path\nfrom cxr_platform.storage.lock import folder_lock\nimport sys\n" + (
        "with folder_lock(Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", held, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(StorageError), folder_lock(tmp_path):
            pass
        process.kill()
        with file_lock(tmp_path / lock.LOCK_FILE, timeout=60):
            pass
    with folder_lock(tmp_path):
        pass


def test_a_file_lock_that_another_holder_keeps_is_an_error_after_the_time_given(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    held = pytest.raises(StorageError, match=rf"no other process.*{tmp_path} within 0\.1 s")
    with file_lock(file), held, file_lock(file, timeout=0.1):
        pass
    with file_lock(file, timeout=60):
        pass


def test_a_file_lock_needs_the_folder_of_its_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"\.lock.*No such file"), file_lock(tmp_path / "absent" / ".lock"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(StorageError, match=rf"with locks for {tmp_path}.*No locks available.*flock"),
        lock.folder_lock(tmp_path),
    ):
        pass


def is_lost(check: lock.LockCheck) -> bool:
    try:
        check()
    except StorageError:
        return True
    return False


def unreachable(*_: object) -> None:
    raise EndpointConnectionError(endpoint_url="http://store")


def test_a_lease_is_renewed_again_after_the_store_did_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, tried = parse_path(f"memory://{tmp_path.name}/moment"), threading.Event()
    with folder_lock(where) as check:
        with monkeypatch.context() as broken:
            broken.setattr(lock, "_content", lambda file: (tried.set(), unreachable(file)))
            assert tried.wait(30)
        before = json.loads((where / lock.LOCK_FILE).read_text())["count"]
        wait_until(lambda: json.loads((where / lock.LOCK_FILE).read_text())["count"] > before)
        check()


def test_a_lease_that_another_process_took_is_an_error_at_the_end_and_stays_theirs(tmp_path: Path) -> None:
    where = parse_path(f"memory://{tmp_path.name}/taken")
    other = json.dumps({"holder": "another", "node": "there", "count": 1})
    with pytest.raises(StorageError, match="until the end of the work"), folder_lock(where) as check:  # noqa: PT012
        (where / lock.LOCK_FILE).write_text(other)
        wait_until(lambda: is_lost(check))
    assert (where / lock.LOCK_FILE).read_text() == other


def test_a_holder_that_was_disconnected_for_too_long_has_lost_the_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = parse_path(f"memory://{tmp_path.name}/off")
    with monkeypatch.context() as broken:
        broken.setattr(lock, "ABANDONED_SECONDS", 0.5)
        broken.setattr(lock._Lease, "_renew_once", unreachable)
        with pytest.raises(StorageError, match="until the end"), folder_lock(where):
            time.sleep(lock.ABANDONED_SECONDS * 1.5)
    with folder_lock(where):
        pass


def pause(lease: lock._Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `ABANDONED_SECONDS` pass for this process, as when its machine was suspended."""
    later = lock._now() + lock.ABANDONED_SECONDS
    monkeypatch.setattr(lock, "_now", lambda: later)
    assert lease._is_expired()


@pytest.fixture
def lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> lock._Lease:
    """A lease that is held and renewed by nothing but `check`."""
    monkeypatch.setattr(lock, "RENEWAL_SECONDS", 3600.0)
    monkeypatch.setattr(lock.time, "sleep", lambda _: None)
    lease = lock._Lease(parse_path(f"memory://{tmp_path.name}/pause") / lock.LOCK_FILE, StorageError)
    lease.take(is_abandoned=False)
    return lease


def test_a_holder_takes_its_lease_again_after_a_pause_in_which_no_other_process_came(
    lease: lock._Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause(lease, monkeypatch)
    lease.check()
    assert not lease._is_expired()
    lease.give_back()
    assert not lease._file.exists()


@pytest.mark.parametrize("other", [{"holder": "another"}, None])
def test_a_holder_does_not_take_its_lease_again_after_another_process_came(
    lease: lock._Lease, monkeypatch: pytest.MonkeyPatch, other: dict[str, str] | None
) -> None:
    """Whether that process still holds it or has given it back."""
    if other is None:
        lease._file.unlink()
    else:
        lease._file.write_text(json.dumps(other))
    pause(lease, monkeypatch)
    with pytest.raises(StorageError, match="until the end of the work"):
        lease.check()
    lease.give_back()
    assert lease._file.exists() == (other is not None)


def test_a_process_that_came_at_the_same_moment_keeps_the_lease(
    lease: lock._Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock.time, "sleep", lambda _: lease._file.write_text(json.dumps({"holder": "another"})))
    pause(lease, monkeypatch)
    with pytest.raises(StorageError, match="until the end of the work"):
        lease.check()
    lease.give_back()
    assert json.loads(lease._file.read_text())["holder"] == "another"


def test_an_error_of_the_work_comes_before_the_loss_of_the_lease(tmp_path: Path) -> None:
    where = parse_path(f"memory://{tmp_path.name}/error")
    with pytest.raises(ZeroDivisionError), folder_lock(where) as check:  # noqa: PT012
        (where / lock.LOCK_FILE).write_text(json.dumps({"holder": "another"}))
        wait_until(lambda: is_lost(check))
        raise ZeroDivisionError


def test_after_a_slow_write_another_slow_write_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where, write = parse_path(f"memory://{tmp_path.name}/slow"), lock._Lease._write
    clock, waited = stopped_clock(monkeypatch, lock), list[float]()

    def slowly(lease: lock._Lease, mode: str = "overwrite") -> None:
        write(lease, mode)
        clock.turn(0.4)

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        (where / lock.LOCK_FILE).write_text(json.dumps({"holder": "another"}))

    monkeypatch.setattr(lock._Lease, "_write", slowly)
    monkeypatch.setattr(clock, "sleep", sleep)
    with pytest.raises(StorageError, match="same moment"), folder_lock(where):
        pass
    assert waited == [pytest.approx(0.4)]


def test_in_a_store_that_refuses_to_overwrite_the_first_writer_holds_the_lease(store: dict[str, str]) -> None:
    file = folder("lock/first") / lock.LOCK_FILE
    first = lock._Lease(file, StorageError)
    first.take(is_abandoned=False)
    with pytest.raises(StorageError, match="same moment"):
        lock._Lease(file, StorageError).take(is_abandoned=False)
    assert (lock._content(file) or {}).get("holder") == first._holder
    first.give_back()
    assert not file.exists()


def test_a_store_that_cannot_refuse_to_overwrite_works_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where, write = parse_path(f"memory://{tmp_path.name}/simple"), lock._Lease._write

    def refuse(lease: lock._Lease, mode: str = "overwrite") -> None:
        if mode == "create":
            raise OSError(errno.ENOSYS, "NotImplemented")
        write(lease, mode)

    monkeypatch.setattr(lock._Lease, "_write", refuse)
    with folder_lock(where):
        assert (where / lock.LOCK_FILE).exists()

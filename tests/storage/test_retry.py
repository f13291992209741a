from pathlib import Path

import pytest

from cxr_platform.errors import StorageError
from cxr_platform.storage import retry
from cxr_platform.storage.files import read_errors, write_atomically
from cxr_platform.storage.paths import parse_path
from cxr_platform.storage.retry import with_retries
from tests.clock import stopped_clock
from tests.storage.failing_store import failing_store


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.001)


def test_work_is_done_again_while_the_store_answers_with_errors(tmp_path: Path) -> None:
    with failing_store(tmp_path.name, errors=3) as store:
        with_retries(store, lambda: write_atomically(store / "file", b"kept"))
        assert store.fs.errors == 0  # type: ignore[attr-defined]
        assert (store / "file").read_bytes() == b"kept"


def test_an_absent_file_is_not_asked_for_again() -> None:
    asked = []

    def read() -> bytes:
        asked.append(1)
        return parse_path("memory://retry/absent").read_bytes()

    with pytest.raises(FileNotFoundError):
        with_retries(parse_path("memory://retry"), read)
    assert len(asked) == 1


def test_a_file_that_may_not_be_read_is_not_asked_for_again() -> None:
    store, asked = parse_path("memory://retry"), []

    def read() -> None:
        asked.append(1)
        with read_errors(store):
            raise PermissionError("denied")

    with pytest.raises(StorageError, match="denied"):
        with_retries(store, read)
    assert len(asked) == 1


def test_a_full_disk_of_this_machine_is_an_error_at_once() -> None:
    store, asked = parse_path("memory://retry"), []

    def fetch() -> None:
        asked.append(1)
        with read_errors(store):
            Path("/dev/full").write_bytes(b"x")

    with pytest.raises(StorageError, match="No space left"):
        with_retries(store, fetch)
    assert len(asked) == 1


def test_an_error_of_a_local_file_system_is_one_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="file/state"):
        with_retries(tmp_path, lambda: write_atomically(tmp_path / "file" / "state", b""))


def test_a_store_that_stays_away_is_an_error_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = stopped_clock(monkeypatch, retry)
    began = clock.now
    with failing_store(tmp_path.name, errors=10**6) as store:
        with pytest.raises(StorageError, match="503"):
            with_retries(store, lambda: write_atomically(store / "file", b""))
        assert store.fs.errors < 10**6 - 1  # type: ignore[attr-defined]
    assert retry.RETRY_SECONDS - retry.LONGEST_PAUSE_SECONDS < clock.now - began <= retry.RETRY_SECONDS

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cxr_platform.domain.study import TrialKey
from cxr_platform.errors import StorageError
from cxr_platform.training import heartbeat
from cxr_platform.training.checkpoint import FILE, read_checkpoint
from cxr_platform.training.heartbeat import STATE, TrialHeartbeat
from cxr_platform.training.plan import Share
from cxr_platform.training.trial import Epoch, Position, training_rng

KEY = TrialKey("scratch", 1)
ALL = Share(1.0, 0.0)


def epoch(number: int) -> Epoch:
    return Epoch(number, 3, 1.0, 0.5, 0.01, 2.0)


def position(number: int) -> Position:
    history = [epoch(n) for n in range(1, number + 1)]
    return Position({"trained/0000": np.full(3, number)}, training_rng(number).bit_generator.state, history)


def told(folder: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((folder / STATE).read_text())
    return content


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def test_it_says_from_the_start_what_runs_where(tmp_path: Path) -> None:
    with TrialHeartbeat(tmp_path / "run", KEY, 3, Share(2.0, 0.5), 60.0) as trial:
        assert trial.begin() is None
    state = told(tmp_path / "run")
    assert (state["strategy"], state["fold"], state["cpus"], state["gpus"]) == ("scratch", 1, 2.0, 0.5)
    assert (state["epoch"], state["epochs"]) == (0, 3)
    assert state["node"]
    assert state["updated"] == state["started"]


def test_it_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "STATE_SECONDS", 0.0)
    with TrialHeartbeat(tmp_path, KEY, 3, ALL, 60.0) as trial:
        trial.begin()
        for number in (1, 2):
            trial.epoch(epoch(number), lambda: pytest.fail("it is not yet time for a checkpoint"))
    state = told(tmp_path)
    assert (state["epoch"], state["epochs"], state["seconds"]) == (2, 3, 4.0)
    assert not (tmp_path / FILE).exists()


def test_the_next_process_goes_on_from_the_last_checkpoint(tmp_path: Path) -> None:
    trial = TrialHeartbeat(tmp_path, KEY, 3, ALL, 0.0)
    for number in (1, 2, 3):
        trial.epoch(epoch(number), lambda number=number: position(number))  # type: ignore[misc]
    with TrialHeartbeat(tmp_path, KEY, 3, ALL, 0.0) as again:
        found = again.begin()
    assert found is not None
    assert [e.epoch for e in found.history] == [1, 2]  # after the last epoch the result itself is stored
    assert found.state["trained/0000"].tolist() == [2, 2, 2]


def test_a_checkpoint_that_was_cut_off_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trial = TrialHeartbeat(tmp_path, KEY, 3, ALL, 0.0)
    trial.epoch(epoch(1), lambda: position(1))
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:-50])
    with pytest.raises(ValueError, match="no whole checkpoint"):
        read_checkpoint(tmp_path)
    with TrialHeartbeat(tmp_path, KEY, 3, ALL, 0.0) as again:
        assert again.begin() is None
    assert "from its beginning" in caplog.text


def test_a_state_that_cannot_be_written_is_told_of_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(heartbeat, "STATE_SECONDS", 0.0)
    with TrialHeartbeat(tmp_path, KEY, 3, ALL, 60.0) as trial:
        trial.begin()
        (tmp_path / STATE).unlink()
        (tmp_path / STATE).mkdir()
        trial.epoch(epoch(1), lambda: position(1))
    assert "Expected to be able to write" in caplog.text


def test_a_place_that_cannot_be_written_is_told_before_anything_is_trained(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("in the way")
    with pytest.raises(StorageError, match="run"), TrialHeartbeat(tmp_path / "run", KEY, 3, ALL, 60.0) as trial:
        trial.begin()


def test_it_says_that_it_lives_within_a_long_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "ALIVE_SECONDS", 0.04)
    with TrialHeartbeat(tmp_path, KEY, 3, ALL, 60.0) as trial:
        trial.begin()
        (tmp_path / STATE).unlink()
        ends = time.monotonic() + 30
        while not (tmp_path / STATE).exists():
            assert time.monotonic() < ends
            time.sleep(0.01)
    assert told(tmp_path)["epoch"] == 0

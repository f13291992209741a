import json
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest

from cxr_platform.domain.study import TrialKey
from cxr_platform.errors import StorageError, StudyMismatch
from cxr_platform.training import running_trial
from cxr_platform.training.plan import Share
from cxr_platform.training.running_trial import CHECKPOINT, STATE, TrialHeartbeat, last_position, write_checkpoint
from cxr_platform.training.trial import Epoch, Position, training_rng
from tests.waiting import wait_until

KEY = TrialKey("scratch", 1)
ALL = Share(1.0, 0.0)
NUMERICS = {"backend": "tensorflow", "precision": "mixed_float16"}


def epoch(number: int) -> Epoch:
    return Epoch(number, 3, 1.0, 0.5, 0.01, 2.0)


def position(number: int) -> Position:
    history = [epoch(n) for n in range(1, number + 1)]
    return Position({"trained/0000": np.full(3, number)}, training_rng(number).bit_generator.state, history)


def stored_state(folder: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((folder / STATE).read_text())
    return content


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert not heartbeats()


def heartbeats() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.endswith("(_beat)")]


def test_the_first_state_names_trial_node_and_resources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_trial, "utc_now", lambda: datetime(2026, 1, 1, tzinfo=timezone.utc))
    with TrialHeartbeat(tmp_path / "run", KEY, 3, Share(2.0, 0.5), 60.0, NUMERICS) as trial:
        assert trial.begin() is None
    state = stored_state(tmp_path / "run")
    assert (state["strategy"], state["fold"], state["cpus"], state["gpus"]) == ("scratch", 1, 2.0, 0.5)
    assert (state["epoch"], state["epochs"]) == (0, 3)
    assert state["node"]
    assert state["updated"] == state["started"]


def test_the_state_follows_the_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_trial, "STATE_SECONDS", 0.0)
    with TrialHeartbeat(tmp_path, KEY, 3, ALL, 60.0, NUMERICS) as trial:
        trial.begin()
        for number in (1, 2):
            trial.epoch(epoch(number), lambda: pytest.fail("it is not yet time for a checkpoint"))
    state = stored_state(tmp_path)
    assert (state["epoch"], state["epochs"], state["seconds"]) == (2, 3, 4.0)
    assert not (tmp_path / CHECKPOINT).exists()


def test_the_next_process_continues_from_the_last_checkpoint(tmp_path: Path) -> None:
    trial = TrialHeartbeat(tmp_path, KEY, 3, ALL, 0.0, NUMERICS)
    for number in (1, 2, 3):
        trial.epoch(epoch(number), lambda number=number: position(number))  # type: ignore[misc]
    with TrialHeartbeat(tmp_path, KEY, 3, ALL, 0.0, NUMERICS) as again:
        resumed = again.begin()
    assert resumed is not None
    assert [e.epoch for e in resumed.history] == [1, 2]  # after the last epoch the result itself is stored
    assert resumed.state["trained/0000"].tolist() == [2, 2, 2]


def test_a_truncated_checkpoint_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trial = TrialHeartbeat(tmp_path, KEY, 3, ALL, 0.0, NUMERICS)
    trial.epoch(epoch(1), lambda: position(1))
    (tmp_path / CHECKPOINT).write_bytes((tmp_path / CHECKPOINT).read_bytes()[:-50])
    with TrialHeartbeat(tmp_path, KEY, 3, ALL, 0.0, NUMERICS) as again:
        assert again.begin() is None
    assert "is damaged, the trial starts from its first epoch" in caplog.text


def test_a_state_that_cannot_be_written_is_logged_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(running_trial, "STATE_SECONDS", 0.0)
    with TrialHeartbeat(tmp_path, KEY, 3, ALL, 60.0, NUMERICS) as trial:
        trial.begin()
        (tmp_path / STATE).unlink()
        (tmp_path / STATE).mkdir()
        trial.epoch(epoch(1), lambda: position(1))
    assert "Expected to be able to write" in caplog.text


def test_a_folder_that_cannot_be_written_is_an_error_before_any_training(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("in the way")
    with (
        pytest.raises(StorageError, match="run"),
        TrialHeartbeat(tmp_path / "run", KEY, 3, ALL, 60.0, NUMERICS) as trial,
    ):
        trial.begin()


def test_the_state_is_written_again_within_a_long_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_trial, "ALIVE_SECONDS", 0.04)
    with TrialHeartbeat(tmp_path, KEY, 3, ALL, 60.0, NUMERICS) as trial:
        trial.begin()
        (tmp_path / STATE).unlink()
        wait_until((tmp_path / STATE).exists)
        assert len(heartbeats()) == 1
    assert stored_state(tmp_path)["epoch"] == 0


def test_a_position_is_read_as_it_was_written(tmp_path: Path) -> None:
    state = {"trained/0000": np.full((2, 3), 3, "float32"), "optimizer/0000": np.array(3)}
    written = Position(state, training_rng(3).bit_generator.state, position(3).history)
    write_checkpoint(tmp_path, written, NUMERICS)
    read = last_position(tmp_path)
    assert read is not None
    assert read.state["trained/0000"].tolist() == [[3.0] * 3] * 2
    assert read.state["trained/0000"].dtype == "float32"
    assert read.state["optimizer/0000"].shape == ()
    assert read.history == written.history
    rng = np.random.default_rng()
    rng.bit_generator.state = dict(read.rng)
    assert (rng.random(5) == training_rng(3).random(5)).all()


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"precision": "mixed_bfloat16"}, "precision: mixed_float16 → mixed_bfloat16"),
        ({"backend": "jax"}, "backend: tensorflow → jax"),
    ],
)
def test_a_checkpoint_of_another_backend_or_precision_is_refused_with_the_difference(
    other: dict[str, str], difference: str, tmp_path: Path
) -> None:
    write_checkpoint(tmp_path, position(1), NUMERICS)
    with (
        pytest.raises(StudyMismatch, match=rf"position\.npz.*{difference}.*Remove .* first epoch"),
        TrialHeartbeat(tmp_path, KEY, 3, ALL, 60.0, {**NUMERICS, **other}) as trial,
    ):
        trial.begin()


def test_a_checkpoint_of_another_storage_of_activations_is_not_continued(tmp_path: Path) -> None:
    in_files = {**NUMERICS, "activations": "files"}
    write_checkpoint(tmp_path, position(1), in_files)
    assert last_position(tmp_path, in_files) is not None
    assert last_position(tmp_path) is not None
    assert last_position(tmp_path, {**NUMERICS, "activations": "memory"}) is None
    with pytest.raises(StudyMismatch):
        last_position(tmp_path, {"backend": "jax", "precision": "float32", "activations": "memory"})


def test_without_a_checkpoint_there_is_no_position(tmp_path: Path) -> None:
    assert last_position(tmp_path) is None
    assert last_position(tmp_path / "absent") is None


def test_a_pickle_in_a_checkpoint_is_not_read(tmp_path: Path) -> None:
    np.savez(tmp_path / CHECKPOINT, meta=np.array([{}], dtype=object))
    assert last_position(tmp_path) is None


def test_a_checkpoint_that_cannot_be_read_now_is_not_taken_for_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> bytes:
        raise ConnectionError("the store does not answer")

    write_checkpoint(tmp_path, position(1), NUMERICS)
    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(StorageError, match="able to read"):
        last_position(tmp_path)

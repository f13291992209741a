from pathlib import Path

import numpy as np
import pytest

from cxr_platform.errors import StorageError
from cxr_platform.training.checkpoint import FILE, checkpoint_name, epoch_of, newest, read_checkpoint, write_checkpoint
from cxr_platform.training.trial import Epoch, Position, training_rng


def checkpoint(run: Path, epoch: int, attempt: str = "attempt-a") -> Path:
    folder = run / attempt / checkpoint_name(epoch)
    folder.mkdir(parents=True)
    history = [Epoch(n, 12, 1.5 / n, 0.5, 0.01, 2.0) for n in range(1, epoch + 1)]
    state = {"trained/0000": np.full((2, 3), epoch, "float32"), "optimizer/0000": np.array(epoch)}
    write_checkpoint(folder, Position(state, training_rng(epoch).bit_generator.state, history))
    return folder


def cut_off(folder: Path) -> None:
    whole = (folder / FILE).read_bytes()
    (folder / FILE).write_bytes(whole[: len(whole) // 2])


def test_a_position_is_read_as_it_was_written(tmp_path: Path) -> None:
    position = read_checkpoint(checkpoint(tmp_path, 3))
    assert position.state["trained/0000"].tolist() == [[3.0] * 3] * 2
    assert position.state["trained/0000"].dtype == "float32"
    assert position.state["optimizer/0000"].shape == ()
    assert [epoch.epoch for epoch in position.history] == [1, 2, 3]
    rng = np.random.default_rng()
    rng.bit_generator.state = dict(position.rng)
    assert (rng.random(5) == training_rng(3).random(5)).all()


def test_the_newest_is_that_of_the_latest_epoch_of_any_attempt(tmp_path: Path) -> None:
    checkpoint(tmp_path, 9)
    latest = checkpoint(tmp_path, 10, "attempt-b")
    assert newest(tmp_path) == latest
    assert epoch_of(latest) == 10
    assert newest(tmp_path / "elsewhere") is None


def test_one_that_was_cut_off_is_refused_and_passed_over(tmp_path: Path) -> None:
    before, broken = checkpoint(tmp_path, 4), checkpoint(tmp_path, 5)
    cut_off(broken)
    (tmp_path / "attempt-a" / checkpoint_name(6)).mkdir()
    with pytest.raises(ValueError, match="no whole checkpoint"):
        read_checkpoint(broken)
    assert newest(tmp_path) == before


def test_a_pickle_in_a_checkpoint_is_not_read(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, 1)
    np.savez(folder / FILE, story=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="no whole checkpoint"):
        read_checkpoint(folder)


def test_one_that_cannot_be_read_for_the_moment_is_not_taken_for_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> bytes:
        raise ConnectionError("the store does not answer")

    folder = checkpoint(tmp_path, 1)
    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(StorageError, match="able to read"):
        read_checkpoint(folder)
    with pytest.raises(StorageError, match="able to read"):
        newest(tmp_path)

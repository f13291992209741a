import pytest

from pipelines import benchmark
from pipelines.benchmarks import folds


def test_seconds_beyond_the_steps_exclude_epochs_at_their_steady_pace() -> None:
    assert folds.beyond_steps(20.0, [9.0, 2.0, 2.0, 3.0]) == pytest.approx(12.0)


def test_both_ways_and_their_ratio_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["folds", "--strategy", "off-the-shelf", "--input-size", "32"]) == 0
    text = capsys.readouterr().out
    assert "kept step: first fold" in text
    assert "model.fit: first fold" in text
    assert "second fold, model.fit / kept step:" in text

import pytest

from pipelines import benchmark_folds


def test_seconds_beyond_the_steps_leave_out_the_steady_epochs() -> None:
    assert benchmark_folds.beyond_steps(20.0, [9.0, 2.0, 2.0, 3.0]) == pytest.approx(12.0)


def test_it_prints_both_ways_and_their_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark_folds.main(["--strategy", "off-the-shelf", "--input-size", "32"]) == 0
    text = capsys.readouterr().out
    assert "kept step: first fold" in text
    assert "model.fit: first fold" in text
    assert "second fold, model.fit / kept step:" in text

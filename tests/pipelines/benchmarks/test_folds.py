from collections.abc import Callable
from functools import cache

import pytest

from pipelines import benchmark
from pipelines.benchmarks import folds


def test_seconds_beyond_the_steps_exclude_epochs_at_their_steady_pace() -> None:
    assert folds.beyond_steps(20.0, [9.0, 2.0, 2.0, 3.0]) == pytest.approx(12.0)


Way = Callable[..., Callable[[int], float]]


def one_fold(way: Way) -> Way:
    """As `way`, but the second fold is not trained: it would run the same code again."""

    def made(*arguments: object) -> Callable[[int], float]:
        train_fold = way(*arguments)
        first = cache(lambda: train_fold(0))
        return lambda _number: first()

    return made


def test_both_ways_and_their_ratio_are_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for way in ("_kept_step", "_stock_fit"):
        monkeypatch.setattr(folds, way, one_fold(getattr(folds, way)))
    assert benchmark.main(["folds", "--strategy", "off-the-shelf", "--input-size", "32"]) == 0
    text = capsys.readouterr().out
    assert "kept step: first fold" in text
    assert "model.fit: first fold" in text
    assert "second fold, model.fit / kept step:" in text

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pipelines import benchmark
from pipelines.benchmarks.head import regression_answers
from tests.study_records import study_record, write_record


def test_the_regression_is_scored_on_the_fold_it_was_not_trained_on() -> None:
    """Features that identify the image and nothing else allow only guesses on other images."""
    labels = np.arange(42) % 7
    folds = np.arange(42) // 7 % 3
    assert (regression_answers(np.eye(42), labels, folds) == labels).mean() < 0.5
    separable = np.eye(7)[labels]
    assert (regression_answers(separable, labels, folds) == labels).all()


def test_another_manifest_than_the_studys_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_record(tmp_path / "study.json", study_record(strategies=("off-the-shelf",)))
    monkeypatch.setattr("cxr_platform.manifest.store.open_manifest", lambda _: SimpleNamespace(content_hash="def"))
    assert benchmark.main(["head", "--manifest", "m", "--study", str(tmp_path)]) == 2
    assert "content hash def" in capsys.readouterr().err


def test_a_study_that_leaves_origins_out_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_record(tmp_path / "study.json", study_record(strategies=("off-the-shelf",), protocol="origins"))
    monkeypatch.setattr("cxr_platform.manifest.store.open_manifest", lambda _: SimpleNamespace(content_hash="abc"))
    assert benchmark.main(["head", "--manifest", "m", "--study", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "with the protocol grouped or paper" in line

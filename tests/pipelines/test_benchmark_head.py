from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pipelines import benchmark_head
from tests.study_records import study_record, write_record


def test_the_regression_is_judged_on_the_fold_it_did_not_see() -> None:
    """Features that name the image and nothing else: right on what was seen, at chance on what was not."""
    labels = np.arange(42) % 7
    folds = np.arange(42) // 7 % 3
    assert benchmark_head.regression_accuracy(np.eye(42), labels, folds) < 0.5
    separable = np.eye(7)[labels]
    assert benchmark_head.regression_accuracy(separable, labels, folds) == 1.0


def test_another_manifest_than_the_studys_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_record(tmp_path / "study.json", study_record(strategies=("off-the-shelf",)))
    monkeypatch.setattr("cxr_platform.manifest.store.open_manifest", lambda _: SimpleNamespace(content_hash="def"))
    assert benchmark_head.main(["--manifest", "m", "--study", str(tmp_path)]) == 2
    assert "content hash def" in capsys.readouterr().err

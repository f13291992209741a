import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from pipelines import benchmark
from pipelines.benchmarks import study
from pipelines.benchmarks.study import Outcome, StudyCommand, write_class_folders
from pipelines.options import ProfileOptions
from tests.training.builders import tiny_data


def test_each_image_is_tested_in_its_fold_and_trained_on_in_the_others(tmp_path: Path) -> None:
    data = tiny_data(count=28, folds=2)
    write_class_folders(data, tmp_path / "images")
    for fold in (0, 1):
        parts = {
            part: {file.stem for file in (tmp_path / "images" / f"fold-{fold}" / part).glob("*/*.png")}
            for part in ("train", "test")
        }
        assert parts["test"] == set(data.image_ids[data.rows_of_fold(fold)])
        assert parts["train"] == set(data.image_ids[data.rows_outside(fold)])
    with Image.open(tmp_path / "images" / "fold-0" / "test" / "Covid19" / "image-000.png") as image:
        assert np.array_equal(np.asarray(image), data.images[0])


def test_a_study_has_the_folds_of_its_manifest_and_no_report() -> None:
    manifest = SimpleNamespace(folder=Path("m"), info=SimpleNamespace(folds=4))
    command = StudyCommand(Path("runs"), "local", None, ProfileOptions("paper", seed=3))
    words = command.words(manifest, "s", ["scratch", "fine-tuning-1"], "--processes", "2")  # type: ignore[arg-type]
    text = " ".join(words)
    assert text.startswith("pipelines.cross_validate --manifest m --runs runs --name s")
    assert "--strategies scratch,fine-tuning-1 --engine local --profile paper --folds 4 --seed 3 --no-report" in text
    assert text.endswith("--processes 2")
    assert "--input-size" not in text


def test_seconds_accuracies_and_the_ratio_are_printed_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = SimpleNamespace(folder=tmp_path, info=SimpleNamespace(folds=3, images=84))
    monkeypatch.setattr(study, "manifest_of_size", lambda *_: manifest)
    monkeypatch.setattr(study, "stock_settings", lambda *_: {})
    monkeypatch.setattr(study, "run_platform", lambda *_: Outcome(20.0, {"scratch": 0.81}))
    monkeypatch.setattr(study, "run_stock", lambda *_: Outcome(150.0, {"scratch": 0.25}))
    file = tmp_path / "study.json"
    options = ["--manifest", "m", "--work", str(tmp_path), "--strategies", "scratch", "--json", str(file)]
    assert benchmark.main(["study", *options]) == 0
    text = capsys.readouterr().out
    assert "stock / platform: 7.5 times" in text
    assert "scratch              0.810   0.250" in text
    result = json.loads(file.read_text())
    assert result["stock_to_platform"] == 7.5
    assert result["platform"]["accuracy"] == {"scratch": 0.81}

import json
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from cxr_platform.config import load_profile
from pipelines import benchmark
from pipelines.benchmarks import streaming
from pipelines.benchmarks.streaming import Compared
from tests.training.builders import random_imagenet, tiny_data

TINY = """\
folds = 2
[model]
input_size = 32
dense_units = 32
[augmentation]
views = 1
[training]
batch_size = 8
off_the_shelf = { epochs = 3, learning_rate = 0.01 }
fine_tuning = { epochs = 2, learning_rate = 0.001 }
scratch = { epochs = 1, learning_rate = 0.001 }
"""


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "tiny.toml"
    file.write_text(TINY)
    manifest = SimpleNamespace(info=SimpleNamespace(folds=2))
    monkeypatch.setattr(streaming, "manifest_of_size", lambda *_: manifest)
    monkeypatch.setattr("cxr_platform.training.data.load_study_data", lambda *_: tiny_data())
    monkeypatch.setattr("cxr_platform.training.devices.limit_process", lambda *_, **__: None)
    monkeypatch.setattr("cxr_platform.models.weights.find_weights", lambda *_: None)
    imagenet = random_imagenet(load_profile(str(file)))
    monkeypatch.setattr("cxr_platform.models.weights.load_backbone_weights", lambda *_: imagenet)
    return file


def test_both_ways_train_the_same_folds(profile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = tmp_path / "result.json"
    places = ["--manifest", "m", "--work", str(tmp_path / "work"), "--profile", str(profile), "--json", str(result)]
    # 28 files, of which 16 are read at a time
    few = ["--strategies", "off-the-shelf", "--per-file", "2", "--seeds", "2"]
    assert benchmark.main(["streaming", *places, *few]) == 0
    (row,) = json.loads(result.read_text())["strategies"]
    assert (row["strategy"], row["files"]) == ("off-the-shelf", 28)
    assert row["ratio"] == pytest.approx(row["files_rate"] / row["memory_rate"])
    assert len(row["memory_accuracies"]) == len(row["files_accuracies"]) == 2
    assert row["difference"] == pytest.approx(fmean(row["files_accuracies"]) - fmean(row["memory_accuracies"]))
    assert row["low"] <= row["difference"] <= row["high"]
    assert "images/s in memory" in capsys.readouterr().out


def test_scratch_has_no_activations(profile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = ["--manifest", "m", "--work", str(tmp_path), "--profile", str(profile)]
    assert benchmark.main(["streaming", *places, "--strategies", "scratch"]) == 2
    assert "strategies with frozen layers" in capsys.readouterr().err


def test_one_seed_has_no_interval(profile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = ["--manifest", "m", "--work", str(tmp_path), "--profile", str(profile)]
    assert benchmark.main(["streaming", *places, "--seeds", "1"]) == 2
    assert "at least 2 seeds" in capsys.readouterr().err


def test_the_interval_is_that_of_a_paired_t_test() -> None:
    memory, files = [84.0, 83.5, 84.3, 83.9], [83.8, 83.9, 84.1, 83.2]
    mean, low, high = Compared("off-the-shelf", 106, 1000.0, 950.0, memory, files).difference
    expected = stats.ttest_rel(files, memory).confidence_interval(0.95)
    assert mean == pytest.approx(np.mean(files) - np.mean(memory))
    assert (low, high) == pytest.approx(tuple(expected))


def test_a_line_states_speed_accuracy_and_interval() -> None:
    compared = Compared("off-the-shelf", 106, 1000.0, 950.0, [84.0, 84.4], [83.5, 84.1])
    assert str(compared) == (
        "off-the-shelf: 1000 images/s in memory, 950 of 106 files, ratio 0.95 (wanted 0.9); "
        "mean accuracy 84.20 % and 83.80 %, difference -0.40 points (-1.67 to +0.87)"
    )

import argparse
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cxr_platform.errors import ConfigError
from cxr_platform.labels import CLASSES
from cxr_platform.training.data import StudyData
from cxr_platform.training.plan import Share
from cxr_platform.training.trial import Epoch
from pipelines import benchmark
from pipelines.benchmarks import recipe


def drawn_data(groups: int = 40) -> StudyData:
    count = 2 * groups
    names = np.array([f"image-{i}" for i in range(count)])
    group_ids = np.array([f"group-{i // 2}" for i in range(count)])
    labels, folds = np.arange(count) // 2 % len(CLASSES), np.arange(count) // 2 % 3
    images = np.zeros((count, 32, 32), "uint8")
    return StudyData(images, labels, folds, names, group_ids, np.array(["a"] * count), names)


def test_the_split_is_by_group_outside_fold_0() -> None:
    data = drawn_data()
    train, test = recipe.inner_split(data, seed=3)
    assert set(data.folds[np.concatenate([train, test])]) == {1, 2}
    assert not set(data.group_ids[train]) & set(data.group_ids[test])
    assert len(train) + len(test) == len(data.rows_outside(0))
    assert len(train) == pytest.approx(0.75 * len(data.rows_outside(0)), abs=2)
    assert (recipe.inner_split(data, seed=3)[0] == train).all()
    assert list(recipe.inner_split(data, seed=4)[0]) != list(train)


def test_a_split_with_one_group_is_an_error() -> None:
    with pytest.raises(ConfigError, match="two groups outside fold 0"):
        recipe.inner_split(drawn_data(groups=2), seed=1)


@pytest.mark.parametrize("text", ["{", "[1]", "training.batch_size=16"])
def test_settings_that_are_no_object_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected"):
        recipe.parse_settings(text)


@pytest.mark.parametrize(
    "key", ["seed", "resources.cpu", "training.fine_tuning.epochs", "augmentation.views", "training", "folds"]
)
def test_settings_that_training_from_scratch_does_not_read_are_refused(key: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=rf"expected settings of training from scratch .* not {key}$"):
        recipe.parse_settings(json.dumps({key: 1}))
    assert recipe.parse_settings('{"model.alpha": 0.5, "training.scratch.epochs": 3}')


@pytest.mark.parametrize("text", ["", ",", "-1", "1.5", "a"])
def test_seeds_are_whole_numbers(text: str) -> None:
    assert recipe.parse_seeds("1, 2") == (1, 2)
    with pytest.raises(argparse.ArgumentTypeError, match="expected whole numbers separated by commas"):
        recipe.parse_seeds(text)


def test_each_setting_and_seed_is_trained_printed_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained, precisions, limits = [], set(), []

    def run_trial(bench: SimpleNamespace, strategy: SimpleNamespace, rows: SimpleNamespace, seed: int) -> object:
        """Predicts Covid19 for all, or with the other batch size the truth."""
        precisions.add(bench.precision)
        assert not bench.placement.deterministic
        trained.append((strategy.name, bench.training.batch_size, seed))
        answers = rows.labels[rows.test] if bench.training.batch_size == 16 else np.zeros(len(rows.test), int)
        return SimpleNamespace(probabilities=np.eye(len(CLASSES))[answers], history=[Epoch(2, 2, 0.4, 0.8, 0.1, 1.0)])

    monkeypatch.setattr("cxr_platform.training.trial.run_trial", run_trial)
    monkeypatch.setattr("cxr_platform.training.study.gpu_is_visible", lambda: False)
    monkeypatch.setattr("cxr_platform.training.engine_local.local_share", lambda _: Share(4.0, 1.0))
    monkeypatch.setattr("cxr_platform.training.devices.limit_process", lambda *limit: limits.append(limit))
    monkeypatch.setattr("cxr_platform.training.data.load_study_data", lambda *_: drawn_data())
    manifest = SimpleNamespace(info=SimpleNamespace(folds=3))
    monkeypatch.setattr("cxr_platform.manifest.store.open_manifest", lambda _: manifest)

    file = tmp_path / "recipe.json"
    settings = {"training.batch_size": 16, "training.precision": "mixed_bfloat16"}
    options = ["--settings", json.dumps(settings), "--seeds", "1,2", "--json", str(file)]
    assert benchmark.main(["recipe", "--manifest", "m", *options]) == 0
    assert trained == [("scratch", 32, 1), ("scratch", 32, 2), ("scratch", 16, 1), ("scratch", 16, 2)]
    assert limits == [(4.0, 1.0, False)], "a GPU is used, and then nothing has to repeat"
    assert precisions == {"float32", "mixed_bfloat16"}
    assert capsys.readouterr().out.count("accuracy") == 6  # each training, then each setting
    own, other = json.loads(file.read_text())["compared"]
    assert own["difference"] == {"value": 0.0, "low": 0.0, "high": 0.0, "ratio": False, "signed": True}
    assert other["accuracy"]["value"] == 100.0
    assert other["difference"]["value"] == pytest.approx(100 - own["accuracy"]["value"])
    assert other["difference"]["low"] > 0
    attempts = json.loads(file.read_text())["attempts"]
    assert attempts[3]["accuracy"] == 1.0
    assert attempts[3]["settings"] == settings
    assert attempts[0]["accuracy"] < 0.5
    assert attempts[0]["recalls"]["Covid19"] == 1.0
    assert (attempts[0]["training_accuracy"], attempts[0]["epochs"]) == (0.8, 2)

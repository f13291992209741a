from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cxr_platform.config import Profile
from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.errors import ConfigError, StorageError, StudyMismatch
from cxr_platform.labels import CLASSES
from cxr_platform.models.mobilenet import build_network
from cxr_platform.training.champion import ChampionRequest, champion_identity, run_champion, train_champion
from cxr_platform.training.champion_folder import ChampionFolder, read_champion
from cxr_platform.training.folder import StudyFolder
from cxr_platform.training.trial import Epoch
from tests.training.builders import tiny_data, tiny_profile, tiny_study


def tiny_manifest(content_hash: str = "abc") -> Any:
    """What a manifest of 57 images answers, one of them external."""
    data = tiny_data()
    last = {"image_id": "x", "group_id": "x", "source": "far", "label": "Normal", "role": "external", "fold": -1}
    columns = {
        "image_id": [*data.image_ids, last["image_id"]],
        "group_id": [*data.group_ids, last["group_id"]],
        "source": [*data.sources, last["source"]],
        "label": [*np.array(CLASSES)[data.labels], last["label"]],
        "role": ["study"] * len(data.labels) + [last["role"]],
        "fold_grouped": [*data.folds, last["fold"]],
    }
    images = np.concatenate([data.images, data.images[:1]])
    return SimpleNamespace(
        folder=Path("made"),
        content_hash=content_hash,
        info={"content_hash": content_hash, "images": 57, "synthetic": True, "counts": {}, "other": 1},
        table=lambda names: pa.table(columns).select(names),
        pixels=lambda: images,
    )


def request(folder: Path, profile: Profile | None = None, **more: Any) -> ChampionRequest:
    return ChampionRequest(folder, "scratch", profile or tiny_profile(), tiny_manifest(), **more)


@pytest.mark.ray
def test_a_champion_is_trained_on_every_study_image_of_a_manifest(tmp_path: Path) -> None:
    told: list[Epoch] = []
    asked = request(tmp_path / "champion", on_epoch=told.append, seed=7)
    folder = train_champion(asked)
    run = read_champion(folder)
    assert folder == tmp_path / "champion" / "scratch"
    assert [epoch.epoch for epoch in told] == [1, 2]
    assert (run.facts["images"], run.facts["epochs"], run.facts["backend"]) == (56, 2, "tensorflow")
    assert (run.facts["manifest"]["content_hash"], run.facts["manifest"]["study_images"]) == ("abc", 56)
    assert run.facts["seconds"] == pytest.approx(sum(epoch.seconds for epoch in told))
    assert run.facts["hardware"]["processors"] >= 1
    assert run.identity["seed"] == 7
    assert run.identity["manifest"] == "abc"
    build_network(strategy_by_name("scratch"), asked.profile.model).full.load_weights(run.weights)
    assert pq.read_table(run.history)["loss"].to_pylist() == [epoch.loss for epoch in told]
    before = run.weights.stat().st_mtime_ns
    assert train_champion(asked) == folder  # what is finished is not trained again
    assert run.weights.stat().st_mtime_ns == before
    with pytest.raises(StudyMismatch, match="seed: 7 → 8"):
        train_champion(request(tmp_path / "champion", seed=8))


def test_another_manifest_profile_or_seed_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    plan = tiny_study(tmp_path, ("scratch",)).plan
    ChampionFolder(tmp_path, "scratch").begin(champion_identity(plan))
    with pytest.raises(StudyMismatch, match=r"training\.batch_size: 8 → 4"):
        train_champion(request(tmp_path, tiny_profile(**{"training.batch_size": 4})))
    with pytest.raises(StudyMismatch, match="seed: 2020 → 1"):
        train_champion(request(tmp_path, seed=1))


def test_resources_and_folds_are_not_part_of_the_identity(tmp_path: Path) -> None:
    one = tiny_study(tmp_path, ("scratch",)).plan
    other = tiny_study(tmp_path, ("scratch",), tiny_profile(**{"resources.retries": 0, "folds": 3})).plan
    assert champion_identity(one) == champion_identity(other)
    assert champion_identity(one)["strategy"] == "scratch"


def test_two_at_a_time_and_an_unknown_strategy_are_refused(tmp_path: Path) -> None:
    study = tiny_study(tmp_path, ("scratch",))
    with StudyFolder(tmp_path).lock(), pytest.raises(StorageError, match="no other process"):
        run_champion(study.plan, tmp_path, lambda: study)
    with pytest.raises(ConfigError, match="scratched"):
        train_champion(ChampionRequest(tmp_path, "scratched", tiny_profile(), tiny_manifest()))

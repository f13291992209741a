from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cxr_platform.config import Profile
from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.domain.study import NO_FOLD, TrialImages, TrialKey
from cxr_platform.errors import ConfigError, StorageError, StudyError, StudyMismatch
from cxr_platform.intake.letterbox import resize_images
from cxr_platform.labels import CLASSES
from cxr_platform.models.initial_weights import set_initial_weights
from cxr_platform.models.mobilenet import build_network
from cxr_platform.progress import Progress
from cxr_platform.storage.files import file_names, write_json
from cxr_platform.storage.lock import folder_lock
from cxr_platform.storage.paths import parse_path
from cxr_platform.training import champion_ray
from cxr_platform.training.champion import (
    IDENTITY,
    Champion,
    champion_profile,
    read_champion,
    run_champion,
    train_champion,
)
from cxr_platform.training.champion_ray import TASK, ChampionJob
from cxr_platform.training.folder import StudyFolder
from cxr_platform.training.running_trial import CHECKPOINT, last_position, write_checkpoint
from cxr_platform.training.study import execute_trial, inputs_of
from cxr_platform.training.trial import Epoch, Position, TrialResult, training_rng
from tests.manifest.info import manifest_info
from tests.recorded_progress import RecordedProgress
from tests.study_records import study_record, trial_record
from tests.training.builders import tiny_data, tiny_profile, tiny_study


def tiny_manifest(content_hash: str = "abc") -> Any:
    """What a manifest of 57 images answers, one of them external."""
    data = tiny_data()
    last = {"image_id": "x", "group_id": "x", "source": "far", "label": "Normal", "role": "external", "fold": -1}
    columns = {
        "image_id": [*data.image_ids, last["image_id"]],
        "source_path": [f"{name}.png" for name in (*data.image_ids, last["image_id"])],
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
        info=manifest_info(content_hash=content_hash, images=57, synthetic=True),
        table=lambda names: pa.table(columns).select(names),
        pixels=lambda rows, side: resize_images(images[rows], side),
        known_patients=lambda: {},
    )


KEY = TrialKey("scratch", NO_FOLD)
HISTORY = [Epoch(1, 1, 1.5, 0.5, 0.01, 2.0)]


def train(study: Path, profile: Profile | None = None, strategy: str = "scratch", **more: Any) -> Champion:
    return train_champion(study, strategy, profile or tiny_profile(), tiny_manifest(), **more)


def never() -> Any:
    pytest.fail("nothing is left to train")


def store(folder: StudyFolder, **identity: Any) -> None:
    """Store random weights as a finished champion."""
    network = build_network(strategy_by_name("scratch"), tiny_profile().model)
    set_initial_weights(network, 1, None)
    record = trial_record(*KEY, identity=identity, images=TrialImages(train=56, test=0), accuracy=None)
    folder.write_trial(record, tiny_data(), TrialResult(np.zeros((0, 7)), HISTORY, {"total": 1.0}, network))


def fit_here(job: ChampionJob, progress: Progress) -> None:
    """In place of `champion_ray.fit`: train in this process, since a worker would have to import TensorFlow first."""

    def report(epoch: Epoch) -> None:
        progress.step(TASK, epoch.epoch, epoch.epochs)

    inputs = inputs_of(job.study, job.key, {})
    execute_trial(job.study, job.study.workbench(job.share), job.key, inputs, job.share, report, checkpoint_seconds=0.0)


@pytest.mark.ray
def test_a_champion_is_trained_on_every_study_image_of_a_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a worker of Ray Train: test_champion_ray.py and tests/pipelines/test_champion.py."""
    monkeypatch.setattr(champion_ray, "fit", fit_here)
    progress, profile = RecordedProgress(), tiny_profile(seed=7)
    champion = train(tmp_path, profile, progress=progress)
    record = champion.record
    assert champion.folder == tmp_path / "champion" / "scratch"
    assert progress.steps == [("Training the champion", 1, 2), ("Training the champion", 2, 2)]
    assert record.key == KEY
    assert (record.images, record.epochs, record.accuracy) == (TrialImages(train=56, test=0), 2, None)
    assert (record.backend, record.devices) == ("tensorflow", 1)
    assert (record.identity["seed"], record.identity["manifest"]) == (7, "abc")
    assert record.hardware.processors
    assert "keras" in record.versions
    build_network(strategy_by_name("scratch"), profile.model).full.load_weights(champion.weights)
    history = pq.read_table(champion.history)
    assert history["epoch"].to_pylist() == [1, 2]
    assert record.seconds.total >= sum(history["seconds"].to_pylist())
    before = champion.weights.stat().st_mtime_ns
    assert train(tmp_path, profile) == champion  # a finished champion is not trained again
    assert champion.weights.stat().st_mtime_ns == before
    with pytest.raises(StudyMismatch, match="seed: 7 → 8"):
        train(tmp_path, tiny_profile(seed=8))


def test_a_champion_is_trained_in_the_precision_of_its_study_and_not_in_that_of_this_machine() -> None:
    study = study_record(identity={"backend": "tensorflow", "precision": "mixed_bfloat16"})
    assert study.profile.training.precision == "auto"
    profile = champion_profile(study)
    assert profile.training.precision == "mixed_bfloat16"
    assert replace(profile, training=study.profile.training) == study.profile
    assert champion_profile(study_record(identity={})) == study.profile


def test_a_study_of_another_backend_gets_no_champion() -> None:
    with pytest.raises(StudyMismatch, match=r"study test, jax\. Received: tensorflow\. Train.*STACK=jax"):
        champion_profile(study_record(identity={"backend": "jax"}))


def test_another_profile_or_seed_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    study = tiny_study(tmp_path, ("scratch",))
    write_json(study.folder.running_folder(KEY) / IDENTITY, study.plan.trial_identity(KEY))
    with pytest.raises(StudyMismatch, match=r"scratch\.run.*training\.batch_size: 8 → 4.*Remove that folder"):
        train(tmp_path, tiny_profile(**{"training.batch_size": 4}))
    with pytest.raises(StudyMismatch, match="seed: 2020 → 1"):
        train(tmp_path, tiny_profile(seed=1))


def test_a_finished_champion_is_returned_and_one_of_another_manifest_refused(tmp_path: Path) -> None:
    study = tiny_study(tmp_path, ("scratch",))
    store(study.folder, **study.plan.trial_identity(KEY))
    champion = run_champion(study.plan, study.folder, never)
    assert champion.record.images.train == 56
    assert pq.read_table(champion.history)["epoch"].to_pylist() == [1]
    assert {path.name for path in champion.folder.iterdir()} == {"trial.json", "history.parquet", "model.weights.h5"}
    other = replace(study.plan, manifest=study.plan.manifest.model_copy(update={"content_hash": "def"}))
    with pytest.raises(StudyMismatch, match=r"manifest: abc → def"):
        run_champion(other, study.folder, never)


def test_partly_written_champions_are_removed(tmp_path: Path) -> None:
    study = tiny_study(tmp_path, ("scratch",))
    store(study.folder, **study.plan.trial_identity(KEY))
    leftover = study.folder.champion_root / ".scratch.abc"
    leftover.mkdir()
    study.folder.running_folder(KEY).mkdir()
    run_champion(study.plan, study.folder, never)
    assert sorted(path.name for path in study.folder.champion_root.iterdir()) == [".lock", "scratch"]


def test_resources_and_folds_are_not_part_of_the_identity(tmp_path: Path) -> None:
    one = tiny_study(tmp_path, ("scratch",)).plan
    other = tiny_study(tmp_path, ("scratch",), tiny_profile(**{"resources.retries": 0, "folds": 3})).plan
    assert one.trial_identity(KEY) == other.trial_identity(KEY)
    assert one.trial_identity(KEY)["strategy"] == "scratch"
    assert one.trial_identity(TrialKey("scratch", 0)) != other.trial_identity(TrialKey("scratch", 0))


def test_a_locked_folder_and_an_unknown_strategy_are_refused(tmp_path: Path) -> None:
    study = tiny_study(tmp_path, ("scratch",))
    with folder_lock(study.folder.champion_root), pytest.raises(StorageError):
        run_champion(study.plan, study.folder, never)
    with pytest.raises(ConfigError, match="scratched"):
        train(tmp_path, strategy="scratched")


def test_no_champion_and_a_damaged_one_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "champion" / "scratch"
    with pytest.raises(StudyError, match=r"Expected a trained champion.*make champion"):
        read_champion(folder)
    folder.mkdir(parents=True)
    for content in ("{", '{"images": 3}', "[]"):
        (folder / "trial.json").write_text(content)
        with pytest.raises(StudyError, match=r"trial\.json.*Remove"):
            read_champion(folder)


def test_a_damaged_identity_is_refused_with_what_to_do(tmp_path: Path) -> None:
    study = tiny_study(tmp_path, ("scratch",))
    running = study.folder.running_folder(KEY)
    running.mkdir(parents=True)
    (running / IDENTITY).write_text("{")
    with pytest.raises(StudyError, match=r"identity\.json.*Remove the folder"):
        run_champion(study.plan, study.folder, never)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    study = tiny_study(tmp_path / "file", ("scratch",))
    with pytest.raises(StorageError, match="file"):
        run_champion(study.plan, study.folder, never)


def test_a_champion_is_stored_and_read_in_an_object_store(tmp_path: Path) -> None:
    root = parse_path(f"memory://{tmp_path.name}/study")
    study = tiny_study(root, ("scratch",))
    position = Position({}, training_rng(1).bit_generator.state, HISTORY)
    write_checkpoint(study.folder.running_folder(KEY), position, {})
    stored_position = last_position(study.folder.running_folder(KEY))
    assert stored_position is not None
    assert stored_position.history == HISTORY
    store(study.folder, **study.plan.trial_identity(KEY))
    assert not (study.folder.running_folder(KEY) / CHECKPOINT).exists()
    assert run_champion(study.plan, study.folder, never).record.images.train == 56
    stored = [name for name in file_names(root) if not name.endswith(".lock")]
    assert sorted(stored) == [
        f"champion/scratch/{name}" for name in ("history.parquet", "model.weights.h5", "trial.json")
    ]

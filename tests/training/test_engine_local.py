from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cxr_platform.config import ResourcesConfig
from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.domain.study import TrialKey
from cxr_platform.errors import StorageError
from cxr_platform.storage.node_cache import NodeCache
from cxr_platform.training import engine_local
from cxr_platform.training.activations import files
from cxr_platform.training.activations.files import CutFiles
from cxr_platform.training.array_files import write_array
from cxr_platform.training.folder import StudyFolder
from cxr_platform.training.image_files import ImageFile
from cxr_platform.training.inputs import gather
from cxr_platform.training.plan import Share, cuts_of
from cxr_platform.training.progress import StudyProgress
from cxr_platform.training.step import prepare
from cxr_platform.training.study import ACTIVATIONS, StudyRun, inputs_of, run_study
from tests.recorded_progress import RecordedProgress
from tests.training.builders import live_imagenet, tiny_profile, tiny_study

KEYS = [TrialKey("off-the-shelf", 0), TrialKey("off-the-shelf", 1)]


def started(folder: Path) -> StudyRun:
    study = tiny_study(folder, ("off-the-shelf",))
    study.folder.start(study.plan)
    return study


@pytest.mark.parametrize(
    ("gpu_gib", "resources", "processes", "share"),
    [
        (None, ResourcesConfig(cpu=4), 1, Share(4, 0)),
        (None, ResourcesConfig(cpu=4), 4, Share(4, 0)),
        (None, ResourcesConfig(cpu=32), 1, Share(16, 0)),
        (80.0, ResourcesConfig(cpu=4), 1, Share(16, 1)),
        (80.0, ResourcesConfig(cpu=4), 4, Share(4, 0.25)),
        (80.0, ResourcesConfig(cpu=4), 32, Share(1, 1 / 32)),
        (80.0, ResourcesConfig(cpu=4, gpu=0), 4, Share(4, 0)),
    ],
)
def test_a_process_has_the_processors_of_a_trial_or_its_part_of_a_gpu_and_all_processors(
    gpu_gib: float | None, resources: ResourcesConfig, processes: int, share: Share, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_local, "gpu_memory_gib", lambda: gpu_gib)
    monkeypatch.setattr(engine_local, "backend_sees_gpu", lambda: True)
    monkeypatch.setattr(engine_local.os, "cpu_count", lambda: 16)
    assert engine_local.local_share(resources, processes) == share


def test_a_gpu_that_the_backend_does_not_see_is_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_local, "gpu_memory_gib", lambda: 8.0)
    monkeypatch.setattr(engine_local, "backend_sees_gpu", lambda: False)
    monkeypatch.setattr(engine_local.os, "cpu_count", lambda: 16)
    assert engine_local.local_share(ResourcesConfig(cpu=2), 4) == Share(2, 0)


def test_activations_are_computed_once_for_each_image_and_view(tmp_path: Path) -> None:
    study = tiny_study(tmp_path, ("off-the-shelf",))
    result = engine_local.compute_activations(study, ("features", "block_15"), StudyProgress())
    assert [chunk.shape for chunk in result["features"]] == [(2, 56, 1280)]
    assert result["block_15"][0].shape[:2] == (2, 56)
    assert engine_local.compute_activations(study, (), StudyProgress()) == {}


@pytest.mark.usefixtures("kept_networks")
def test_a_trial_that_fails_once_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = started(tmp_path)
    real, calls = engine_local.execute_trial, []

    def flaky(*arguments: object) -> dict[str, object]:
        calls.append(arguments)
        if len(calls) == 1:
            raise RuntimeError("a stray particle")
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(engine_local, "execute_trial", flaky)
    assert engine_local.run(study, KEYS, StudyProgress()) == {}
    assert len(calls) == 3


@pytest.mark.usefixtures("kept_networks")
def test_a_trial_that_keeps_failing_is_reported_and_the_others_finish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = started(tmp_path)
    real = engine_local.execute_trial

    def broken(study: object, bench: object, key: TrialKey, *rest: object) -> dict[str, object]:
        if key.fold == 0:
            raise RuntimeError("out of luck")
        return real(study, bench, key, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(engine_local, "execute_trial", broken)
    assert engine_local.run(study, KEYS, StudyProgress()) == {KEYS[0]: "RuntimeError: out of luck"}
    assert study.folder.is_finished(KEYS[1])


@pytest.mark.usefixtures("kept_networks")
def test_a_full_disk_ends_the_study_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise StorageError("no space")

    monkeypatch.setattr(StudyFolder, "write_trial", full)
    with pytest.raises(StorageError):
        engine_local.run(started(tmp_path), KEYS, StudyProgress())


def test_trials_on_files_predict_what_trials_in_memory_do(tmp_path: Path) -> None:
    results = {}
    for storage in ("memory", "files"):
        profile = tiny_profile(**{"resources.activations": storage})
        study = tiny_study(tmp_path / storage, ("off-the-shelf", "fine-tuning-1"), profile)
        file = run_study(study, engine_local.run, StudyProgress())
        results[storage] = pq.read_table(file)
        assert not (study.folder.root / "activations").exists()  # removed with the last trial
    assert results["files"] == results["memory"]


@pytest.mark.parametrize("strategy", ["off-the-shelf", "fine-tuning-1"])
def test_activations_computed_in_every_step_are_the_stored_ones(tmp_path: Path, strategy: str) -> None:
    batches, rows = {}, np.array([5, 0, 33])
    for storage in ("memory", "recompute"):
        study = tiny_study(tmp_path / storage, (strategy,), tiny_profile(**{"resources.activations": storage}))
        study = replace(study, imagenet=live_imagenet(study.plan.profile))
        key = TrialKey(strategy, 0)
        activations = engine_local.compute_activations(study, cuts_of([strategy]), RecordedProgress())
        inputs = inputs_of(study, key, activations)
        network, _ = study.workbench(Share(1.0, 0.0)).set_up(strategy_by_name(strategy), seed=1)
        positions, *others = inputs.training_index(rows, np.random.default_rng(2))
        batch = gather(inputs.arrays, positions), *others
        batches[storage] = np.asarray(prepare(network, network.upper, batch))
    assert batches["recompute"].shape == batches["memory"].shape
    between_images = np.ptp(batches["memory"], axis=0).max()
    assert np.abs(batches["recompute"] - batches["memory"]).max() < 0.01 * between_images


def test_a_trial_whose_steps_compute_activations_is_stored(tmp_path: Path) -> None:
    study = tiny_study(tmp_path, ("fine-tuning-1",), tiny_profile(**{"resources.activations": "recompute"}))
    predictions = pq.read_table(run_study(study, engine_local.run, StudyProgress())).to_pandas()
    assert len(predictions) == 56
    np.testing.assert_allclose(predictions[list(PROBABILITY_COLUMNS)].sum(axis=1), 1.0, atol=1e-5)


def test_a_continued_study_keeps_its_activations_where_they_were(tmp_path: Path) -> None:
    study = tiny_study(tmp_path, ("off-the-shelf",), tiny_profile(**{"resources.activations": "files"}))
    study.folder.start(study.plan)
    engine_local.run(study, KEYS[:1], StudyProgress())
    assert study.folder.trial_record(KEYS[0]).activations == "files"
    auto = tiny_study(tmp_path, ("off-the-shelf", "fine-tuning-1"))  # "auto": they would fit into memory
    kept = engine_local.compute_activations(auto, ("features", "block_15"), RecordedProgress())
    assert isinstance(kept["features"], CutFiles)
    assert isinstance(kept["block_15"], list)
    assert study.folder.record().activations == {"features": "files", "block_15": "memory"}


def test_a_champion_leaves_the_record_of_its_study_alone(tmp_path: Path) -> None:
    study = tiny_study(tmp_path, ("off-the-shelf",))
    study.folder.start(study.plan)
    before = study.folder.record()
    engine_local.chosen_storages(replace(study, of_champion=True), ("features",), RecordedProgress())
    assert study.folder.record() == before


def test_a_champion_has_files_of_its_own(tmp_path: Path) -> None:
    profile = tiny_profile(**{"resources.activations": "files"})
    study = replace(tiny_study(tmp_path, ("off-the-shelf",), profile), of_champion=True)
    kept = engine_local.compute_activations(study, ("features",), RecordedProgress())["features"]
    assert isinstance(kept, CutFiles)
    assert kept.files[0].file.is_relative_to(study.folder.champion_root)
    assert not (tmp_path / "activations").exists()


def test_an_interrupted_study_computes_only_the_files_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "chunks", lambda count, _: [slice(0, 40), slice(40, count)])
    study = tiny_study(tmp_path, ("off-the-shelf",), tiny_profile(**{"resources.activations": "files"}))
    whole = engine_local.compute_activations(study, ("features",), RecordedProgress())["features"]
    assert isinstance(whole, CutFiles)
    whole.files[1].file.unlink()
    kept, before = whole.files[0].file.stat().st_mtime_ns, whole.files[0][:]
    progress = RecordedProgress()
    again = engine_local.compute_activations(study, ("features",), progress)["features"]
    assert isinstance(again, CutFiles)
    assert (again.files[0].file.stat().st_mtime_ns, progress.steps) == (kept, [(ACTIVATIONS, 16, 16)])
    assert (again.files[0][:] == before).all()


def test_trials_state_what_they_used_of_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXR_CACHE", str(tmp_path / "cache"))
    study = tiny_study(tmp_path / "study", ("scratch",))
    images = study.data.images
    stored = ImageFile("images.npy", images.shape, partial(write_array, array=images), NodeCache())
    run_study(replace(study, data=replace(study.data, images=stored)), engine_local.run, StudyProgress())
    first, second = (study.folder.trial_record(TrialKey("scratch", fold)).cache for fold in (0, 1))
    assert first is not None
    assert first.misses == 1
    assert first.fetched_bytes == (tmp_path / "cache" / "images.npy").stat().st_size > images.nbytes
    assert second is not None
    assert (second.misses, second.fetched_bytes) == (0, 0)

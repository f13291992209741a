import io
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cxr_platform.config import ResourcesConfig
from cxr_platform.domain.study import TrialKey
from cxr_platform.errors import StorageError, StudyMismatch, TrialsFailed
from cxr_platform.storage import lock
from cxr_platform.storage.paths import parse_path
from cxr_platform.training import engine_local
from cxr_platform.training.folder import StudyFolder
from cxr_platform.training.inputs import ImageInputs
from cxr_platform.training.plan import Share
from cxr_platform.training.progress import StudyProgress
from cxr_platform.training.step import Placement
from cxr_platform.training.study import StudyRun, execute_trial, placement_of, run_study
from cxr_platform.training.trial import Workbench
from cxr_platform.training.trial_tables import predictions_table
from tests.storage.failing_store import failing_store
from tests.storage.object_store import folder, requests
from tests.study_records import trial_record
from tests.training.builders import tiny_profile, tiny_study


def test_a_study_runs_every_trial_and_pools_the_predictions(tmp_path: Path) -> None:
    study = tiny_study(tmp_path, ("off-the-shelf",))
    table = pq.read_table(run_study(study, engine_local.run, StudyProgress()))
    assert table.num_rows == 56
    assert set(table["fold"].to_pylist()) == {0, 1}


@pytest.mark.usefixtures("kept_networks")
def test_continuing_runs_only_what_is_not_finished(tmp_path: Path) -> None:
    study = tiny_study(tmp_path, ("off-the-shelf",))
    run_study(study, engine_local.run, StudyProgress())
    kept = study.folder.trial_folder(TrialKey("off-the-shelf", 0)) / "trial.json"
    before = kept.stat().st_mtime_ns
    lost = study.folder.trial_folder(TrialKey("off-the-shelf", 1)) / "trial.json"
    lost.unlink()
    requested: list[TrialKey] = []

    def engine(study: StudyRun, todo: list[TrialKey], progress: StudyProgress) -> dict[TrialKey, str]:
        requested.extend(todo)
        return engine_local.run(study, todo, progress)

    run_study(study, engine, StudyProgress())
    assert requested == [TrialKey("off-the-shelf", 1)]
    assert kept.stat().st_mtime_ns == before


@pytest.mark.parametrize(("limit", "gpus", "lines"), [(0, 0.5, 1), (2**30, 0.5, 0), (0, 0.0, 0)])
def test_a_line_says_that_the_inputs_do_not_fit_the_gpu(
    limit: int, gpus: float, lines: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written before the training, which does not matter here."""

    class TrainingBegins(Exception):
        pass

    def run_trial(*_: object) -> None:
        raise TrainingBegins

    monkeypatch.setattr("cxr_platform.training.study.run_trial", run_trial)
    study, key = tiny_study(tmp_path, ("scratch",)), TrialKey("scratch", 0)
    bench = Workbench(study.plan.profile.model, study.plan.profile.training, placement=Placement(resident_bytes=limit))
    inputs = ImageInputs(np.zeros((56, 32, 32), "uint8"), study.plan.profile.augmentation)
    messages: list[str] = []
    with pytest.raises(TrainingBegins):
        execute_trial(study, bench, key, inputs, Share(1.0, gpus), lambda _: None, messages.append)
    assert len(messages) == lines
    for message in messages:
        assert message.startswith("scratch: 0.0 GiB of images are more than the 0.0 GiB of GPU memory")
        assert "a thread gathers batches on the host" in message


def test_mps_is_asked_for_before_the_training_whose_gpu_it_shares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("cxr_platform.training.study.mps_is_running", lambda: asked.append("mps"))
    monkeypatch.setattr("cxr_platform.training.study.run_trial", lambda *_: asked.append("training"))
    study, key = tiny_study(tmp_path, ("scratch",)), TrialKey("scratch", 0)
    bench = Workbench(study.plan.profile.model, study.plan.profile.training)
    inputs = ImageInputs(np.zeros((56, 32, 32), "uint8"), study.plan.profile.augmentation)
    with suppress(AttributeError):  # there is no result
        execute_trial(study, bench, key, inputs, Share(1.0, 0.5), lambda _: None)
    assert asked == ["mps", "training"]


@pytest.mark.parametrize(("memory", "resident"), [(0.0, 0.0), (None, Placement.resident_bytes)])
def test_a_gpu_with_no_memory_left_for_inputs_gets_none(
    memory: float | None, resident: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cxr_platform.training.study.resident_bytes", lambda _gpus: memory)
    assert placement_of(ResourcesConfig(), 0.1).resident_bytes == resident


def test_trials_in_another_precision_are_not_mixed(tmp_path: Path) -> None:
    study = tiny_study(tmp_path, ("scratch",))
    study.folder.start(study.plan)
    study.folder.set_precision("mixed_bfloat16")  # as on a GPU
    with pytest.raises(StudyMismatch, match="precision: mixed_bfloat16 → float32"):
        run_study(study, engine_local.run, StudyProgress())
    assert not (tmp_path / "trials").exists()


@pytest.mark.usefixtures("kept_networks")
def test_failed_trials_are_named_after_the_others_are_stored(tmp_path: Path) -> None:
    study = tiny_study(tmp_path, ("off-the-shelf", "fine-tuning-1"))
    key = TrialKey("fine-tuning-1", 1)

    def engine(study: StudyRun, todo: list[TrialKey], progress: StudyProgress) -> dict[TrialKey, str]:
        return {**engine_local.run(study, [k for k in todo if k != key], progress), key: "too hot"}

    with pytest.raises(TrialsFailed, match=r"1 of 4 trials failed.*fine-tuning-1 fold 1: too hot") as caught:
        run_study(study, engine, StudyProgress())
    assert caught.value.exit_code == 1
    assert study.folder.record().strategies == ("off-the-shelf",)
    pooled = pq.read_table(tmp_path / "predictions.parquet")
    assert set(pooled["strategy"].to_pylist()) == {"off-the-shelf"}


def write_finished(study: StudyRun) -> None:
    """Store trial records and predictions of every trial of `study`, as trials do, without their weights."""
    for key in study.plan.trials():
        rows = study.data.rows_of_fold(key.fold)
        table, place = io.BytesIO(), study.folder.trial_folder(key)
        pq.write_table(predictions_table(key, study.data, rows, np.full((len(rows), 7), 1 / 7, "float32")), table)
        (place / "predictions.parquet").write_bytes(table.getvalue())
        (place / "trial.json").write_bytes(trial_record(*key).to_json())


def requests_to_continue(name: str, folds: int) -> list[tuple[str, str]]:
    """Requests of a process that is asked to run a finished study of one strategy in the store again."""
    study = tiny_study(folder(name), ("scratch",), tiny_profile(folds=folds))
    study.folder.start(study.plan)
    write_finished(study)
    again = replace(study, folder=StudyFolder(study.folder.root))
    with requests(again.folder.root) as sent:
        run_study(again, lambda *_: pytest.fail("there is nothing to run"), StudyProgress())
        assert again.folder.complete(("scratch",), folds) == ("scratch",)
    return sent


@pytest.mark.usefixtures("store")
def test_a_finished_study_in_a_store_is_continued_with_two_requests_per_trial() -> None:
    """One for the record and one for the predictions; all else costs the same for few and for many trials."""
    few, many = requests_to_continue("few", 2), requests_to_continue("many", 8)
    assert len(many) - len(few) == 2 * (8 - 2)
    read = Counter(path for _, path in many if path.endswith("trial.json"))
    assert len(read) == 8
    assert set(read.values()) == {1}


@pytest.mark.usefixtures("store")
def test_a_trial_in_a_store_with_a_damaged_record_is_run_again() -> None:
    study = tiny_study(folder("damaged"), ("scratch",))
    write_finished(study)
    (study.folder.trial_folder(TrialKey("scratch", 1)) / "trial.json").write_bytes(b"{")

    def engine(study: StudyRun, todo: list[TrialKey], _progress: StudyProgress) -> dict[TrialKey, str]:
        assert todo == [TrialKey("scratch", 1)]
        write_finished(study)
        return {}

    assert pq.read_table(io.BytesIO(run_study(study, engine, StudyProgress()).read_bytes())).num_rows == 56


def test_a_study_ends_well_where_its_activations_may_not_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lock, "RENEWAL_SECONDS", 0.1)
    with failing_store(tmp_path.name, may_remove=False) as root:
        study = tiny_study(root, ("scratch",))
        write_finished(study)
        (study.activations_folder / "part").write_bytes(b"large")
        assert run_study(study, lambda *_: pytest.fail("there is nothing to run"), StudyProgress()).exists()
    assert "activations is not needed any more and could not be removed: no permission" in caplog.text


@pytest.mark.parametrize("place", ["a folder", "a store"])
def test_a_second_driver_of_a_study_is_refused_before_it_changes_anything(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "RENEWAL_SECONDS", 0.1)
    root = tmp_path if place == "a folder" else parse_path(f"memory://{tmp_path.name}")
    study = tiny_study(root, ("scratch",))
    with study.folder.lock():
        study.folder.start(study.plan)
        before = (root / "study.json").read_bytes()
        second = tiny_study(root, ("scratch",), tiny_profile(**{"resources.cpu": 2.0}))
        advice = r"no other process to work on the study .*Wait for it to end, or give another --name"
        with pytest.raises(StorageError, match=advice):
            run_study(second, lambda *_: pytest.fail("it runs"), StudyProgress())
        assert (root / "study.json").read_bytes() == before

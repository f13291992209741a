import io
import pickle
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.domain.study import TrialKey, read_study
from cxr_platform.errors import CxrError, PredictionsError, StorageError, StudyError, StudyMismatch
from cxr_platform.labels import CLASSES
from cxr_platform.training.folder import StudyFolder
from cxr_platform.training.plan import StudyPlan
from cxr_platform.training.trial import Epoch, TrialResult
from tests.storage.failing_store import answers_with_errors, errors_left, failing_store
from tests.study_records import STARTED, manifest_facts, trial_record
from tests.training.builders import tiny_data, tiny_profile


def plan(strategies: tuple[str, ...] = ("off-the-shelf",), content_hash: str = "abc", **overrides: object) -> StudyPlan:
    return StudyPlan("t", "grouped", strategies, tiny_profile(**overrides), manifest_facts(content_hash=content_hash))


@cache
def result(rows: int) -> TrialResult:
    from cxr_platform.models.mobilenet import build_network

    network = build_network(strategy_by_name("off-the-shelf"), tiny_profile().model)
    probabilities = np.full((rows, 7), 1 / 7, "float32")
    return TrialResult(probabilities, [Epoch(1, 1, 0.5, 0.4, 0.001, 1.0)], {"total": 1.0}, network)


def test_a_stored_trial_has_its_four_files_and_is_finished(tmp_path: Path) -> None:
    folder, data, key = StudyFolder(tmp_path), tiny_data(), TrialKey("off-the-shelf", 0)
    assert not folder.is_finished(key)
    folder.write_trial(trial_record(*key), data, result(28))
    names = {p.name for p in folder.trial_folder(key).iterdir()}
    assert names == {"trial.json", "history.parquet", "predictions.parquet", "model.weights.h5"}
    assert folder.is_finished(key)
    assert folder.trial_record(key) == trial_record(*key)
    table = pq.read_table(folder.trial_folder(key) / "predictions.parquet")
    assert table["image_id"].to_pylist() == data.image_ids[data.rows_of_fold(0)].tolist()
    assert table["source_path"].to_pylist() == data.source_paths[data.rows_of_fold(0)].tolist()
    assert table["label"].to_pylist() == [CLASSES[i] for i in data.labels[data.rows_of_fold(0)]]
    assert {f"p_{label}" for label in CLASSES} < set(table.column_names)


def test_a_partly_written_trial_is_not_finished(tmp_path: Path) -> None:
    folder, key = StudyFolder(tmp_path), TrialKey("off-the-shelf", 0)
    half = folder.trial_folder(key).with_name(".fold-0.123")
    half.mkdir(parents=True)
    (half / "trial.json").write_text("{}")
    assert not folder.is_finished(key)


def test_pooling_names_the_trials_that_are_missing(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    folder.write_trial(trial_record("off-the-shelf", 0), tiny_data(), result(28))
    with pytest.raises(PredictionsError, match="1 unfinished: off-the-shelf fold 1"):
        folder.pool([TrialKey("off-the-shelf", 0), TrialKey("off-the-shelf", 1)])
    assert not (tmp_path / "predictions.parquet").exists()


def test_a_trial_with_a_damaged_record_is_not_finished(tmp_path: Path) -> None:
    folder, key = StudyFolder(tmp_path), TrialKey("off-the-shelf", 0)
    folder.write_trial(trial_record(*key), tiny_data(), result(28))
    for content in ("", "{", "[]", "\xff"):
        (folder.trial_folder(key) / "trial.json").write_text(content, encoding="latin-1")
        assert not folder.is_finished(key)
    folder.write_trial(trial_record(*key), tiny_data(), result(28))
    assert folder.is_finished(key)


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(b"PAR1 no more")])
def test_pooling_names_the_trial_whose_predictions_cannot_be_read(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    folder, keys = StudyFolder(tmp_path), [TrialKey("off-the-shelf", fold) for fold in (0, 1)]
    for key in keys:
        folder.write_trial(trial_record(*key), tiny_data(), result(28))
    damage(folder.trial_folder(keys[1]) / "predictions.parquet")
    with pytest.raises(CxrError, match=r"off-the-shelf.fold.1.*predictions\.parquet.*again"):
        folder.pool(keys)


def test_pooled_predictions_hold_each_image_once_per_strategy(tmp_path: Path) -> None:
    folder, data = StudyFolder(tmp_path), tiny_data()
    keys = [TrialKey("off-the-shelf", fold) for fold in (0, 1)]
    for key in keys:
        folder.write_trial(trial_record(*key), data, result(28))
    pooled = pq.read_table(folder.pool(keys))
    assert sorted(pooled["image_id"].to_pylist()) == sorted(data.image_ids)


def test_another_configuration_is_refused_with_the_difference(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    folder.start(plan())
    with pytest.raises(StudyMismatch, match=r"model.dense_units: 32 → 64.*another NAME"):
        folder.start(plan(**{"model.dense_units": 64}))
    with pytest.raises(StudyMismatch, match="manifest: abc → def"):
        folder.start(plan(content_hash="def"))


def test_the_precision_of_a_study_is_kept_and_another_one_is_refused(tmp_path: Path) -> None:
    """The engine finds out what "auto" means on the devices of the study; a stated one is known before."""
    folder = StudyFolder(tmp_path)
    folder.start(plan())
    assert "precision" not in folder.record().identity
    folder.set_precision("mixed_bfloat16")
    folder.start(plan())
    assert folder.record().identity["precision"] == "mixed_bfloat16"
    folder.set_precision("mixed_bfloat16")
    folder.start(plan(**{"training.precision": "mixed_bfloat16"}))  # the same on a machine without such a GPU
    with pytest.raises(StudyMismatch, match=r"precision: mixed_bfloat16 → float32.*another NAME"):
        folder.set_precision("float32")
    with pytest.raises(StudyMismatch, match="precision: mixed_bfloat16 → float32"):
        folder.start(plan(**{"training.precision": "float32"}))


def test_strategies_may_be_added_and_resources_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = StudyFolder(tmp_path)
    monkeypatch.setattr("cxr_platform.training.folder.utc_now", lambda: STARTED)
    folder.start(plan())
    for fold in (0, 1):
        folder.write_trial(trial_record("off-the-shelf", fold), tiny_data(), result(28))
    monkeypatch.undo()
    folder.start(plan(("scratch",), **{"resources.cpu": 2.0}))
    assert folder.record().strategies == ("off-the-shelf", "scratch")
    assert folder.record().profile.resources.cpu == 2.0
    assert folder.record().started == STARTED


LUNGS = {"robust.views": ["lungs"]}


def test_robust_may_be_added_and_is_then_kept_with_its_settings(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    folder.start(plan(("scratch",)))
    assert "robust" not in folder.record().identity
    folder.start(plan(("robust",), **LUNGS))
    assert folder.record().identity["robust"]["views"] == ["lungs"]
    with pytest.raises(StudyMismatch, match=r"robust.views: \['lungs'\] → \['whole'\].*another NAME"):
        folder.start(plan(("scratch", "robust")))
    folder.start(plan(("scratch",)))  # no trial of robust is finished on all folds
    for fold in (0, 1):
        folder.write_trial(trial_record("robust", fold), tiny_data(), result(28))
    folder.start(plan(("scratch", "robust"), **LUNGS))
    with pytest.raises(StudyMismatch, match=r"robust\.views"):
        folder.start(plan(("scratch",)))  # the report reads the settings of its networks from the record


def test_unfinished_strategies_are_dropped_when_the_study_continues_with_others(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    folder.start(plan(("scratch",)))
    folder.start(plan(("off-the-shelf",)))
    assert folder.record().strategies == ("off-the-shelf",)


def test_a_study_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    with (
        StudyFolder(tmp_path).lock(),
        pytest.raises(StorageError, match=r"the study .*another --name"),
        StudyFolder(tmp_path).lock(),
    ):
        pass
    with StudyFolder(tmp_path).lock():
        pass


def test_leftovers_of_an_interrupted_run_are_removed(tmp_path: Path) -> None:
    leftover = tmp_path / "trials" / "scratch" / ".fold-0.abc"
    leftover.mkdir(parents=True)
    StudyFolder(tmp_path).start(plan())
    assert not leftover.exists()


def test_a_relative_folder_means_the_same_after_the_working_directory_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = StudyFolder(Path("runs") / "t")
    monkeypatch.chdir("/")
    assert folder.root == tmp_path / "runs" / "t"


def test_a_missing_or_damaged_study_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no such file"):
        StudyFolder(tmp_path).record()
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(StudyError, match="Expected JSON"):
        StudyFolder(tmp_path).record()


def test_a_place_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"study\.json"):
        StudyFolder(tmp_path / "file" / "runs").start(plan())
    with pytest.raises(StorageError, match="off-the-shelf/fold-0"):
        StudyFolder(tmp_path / "file" / "runs").write_trial(trial_record("off-the-shelf", 0), tiny_data(), result(28))


def test_a_trial_is_stored_in_a_store_that_answers_with_errors_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The errors come at every step: the look for an earlier result, the upload of each file, and the record."""
    monkeypatch.setattr("cxr_platform.storage.retry.FIRST_PAUSE_SECONDS", 0.001)
    keys = [TrialKey("off-the-shelf", fold) for fold in (0, 1)]
    for errors in range(1, 8):
        with failing_store(f"{tmp_path.name}/{errors}", errors) as root:
            folder = StudyFolder(root)
            for key in keys:
                folder.write_trial(trial_record(*key), tiny_data(), result(28))
            assert root.fs.errors == 0  # type: ignore[attr-defined]
            answers_with_errors(errors)
            assert folder.finished(keys) == {*keys}
            answers_with_errors(errors)
            assert pq.read_table(io.BytesIO(folder.pool(keys).read_bytes())).num_rows == 56


@pytest.mark.parametrize("errors", [1, 2, 3, 4])
def test_a_study_begins_and_continues_in_a_store_that_answers_with_errors_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, errors: int
) -> None:
    monkeypatch.setattr("cxr_platform.storage.retry.FIRST_PAUSE_SECONDS", 0.001)
    with failing_store(tmp_path.name) as root:
        folder = StudyFolder(root)
        for work in (
            lambda: folder.start(plan()),
            lambda: folder.set_precision("float32"),
            lambda: folder.set_activations({"features": "files"}, None),
            lambda: folder.start(plan()),
        ):
            answers_with_errors(errors)
            work()
            assert errors_left() == 0
        answers_with_errors(errors)
        known = folder.known_record()
        assert known is not None
        assert known.activations == {"features": "files"}


def test_a_study_in_a_store_that_stays_away_is_not_taken_for_a_new_or_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cxr_platform.storage.retry.RETRY_SECONDS", 0.0)
    with failing_store(tmp_path.name) as root:
        StudyFolder(root).start(plan())
        answers_with_errors(10**6)
        with pytest.raises(CxrError, match=r"study\.json.*503"):
            StudyFolder(root).start(plan())


def test_the_record_repeats_the_plan_and_names_this_machine(tmp_path: Path) -> None:
    begun = plan()
    StudyFolder(tmp_path).start(begun)
    record = read_study(tmp_path)
    assert (record.name, record.protocol, record.strategies, record.folds) == ("t", "grouped", ("off-the-shelf",), 2)
    assert (record.profile, record.manifest) == (begun.profile, begun.manifest)
    assert record.identity == begun.identity()
    assert "keras" in record.versions
    assert record.hardware.processors


def test_the_manifest_of_a_study_is_known_before_its_images_are_read(tmp_path: Path) -> None:
    folder, begun = StudyFolder(tmp_path), plan()
    assert folder.known_manifest(begun.profile, "grouped") is None
    folder.start(begun)
    assert folder.known_manifest(begun.profile, "grouped") == "abc"
    with pytest.raises(StudyMismatch, match="protocol: grouped → paper"):
        folder.known_manifest(begun.profile, "paper")


@pytest.mark.parametrize("content", ["{}", "[]", '{"identity": {}}'])
def test_a_study_json_of_another_program_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "study.json").write_text(content)
    with pytest.raises(StudyError, match=r"study\.json"):
        StudyFolder(tmp_path).start(plan())


def test_a_lost_lock_is_an_error_and_the_lock_is_not_pickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost() -> None:
        raise StorageError("Expected to hold it.")

    monkeypatch.setattr("cxr_platform.training.folder.folder_lock", lambda *_: nullcontext(lost))
    folder = StudyFolder(tmp_path)
    folder.check_held()
    with folder.lock():
        with pytest.raises(StorageError, match="to hold it"):
            folder.check_held()
        pickle.loads(pickle.dumps(folder)).check_held()

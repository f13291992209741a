from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray

from cxr_platform.cluster import connect
from cxr_platform.domain.study import TrialKey
from cxr_platform.errors import ConfigError, StorageError, TrialsFailed
from cxr_platform.training import engine_local, engine_ray
from cxr_platform.training.engine_ray import (
    Failure,
    Shared,
    run_rounds,
    trial_places,
    trial_precision,
    trial_resources,
)
from cxr_platform.training.plan import Share
from cxr_platform.training.progress import StudyProgress
from cxr_platform.training.study import StudyRun, run_study
from tests.recorded_progress import RecordedProgress
from tests.study_records import trial_state, write_record
from tests.training.builders import live_imagenet, tiny_profile, tiny_study

pytestmark = pytest.mark.ray

TWO_VIEWS = {"robust": {"views": ["whole", "lungs"], "contrast": True}}


@pytest.fixture(scope="module", autouse=True)
def cluster() -> None:
    """The Ray instance that other tests may have started already."""
    connect()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyRun:
    return lively_study(tmp_path_factory.mktemp("study"))


def lively_study(folder: Path) -> StudyRun:
    study = tiny_study(folder, ("off-the-shelf", "fine-tuning-1", "robust"), tiny_profile(**TWO_VIEWS))
    return replace(study, imagenet=live_imagenet(study.plan.profile))


def test_trials_on_ray_give_what_trials_in_this_process_give(study: StudyRun, tmp_path: Path) -> None:
    pooled = pq.read_table(run_study(study, engine_ray.run, StudyProgress()))
    expected = pq.read_table(run_study(lively_study(tmp_path), engine_local.run, StudyProgress()))
    assert pooled["image_id"] == expected["image_id"]
    assert pooled["strategy"] == expected["strategy"]
    difference = np.abs(pooled["p_Covid19"].to_numpy() - expected["p_Covid19"].to_numpy())
    assert difference.max() < 1e-3
    assert not (study.folder.root / "tune").exists()


@pytest.mark.parametrize(
    ("share", "places"),
    [
        (Share(1.0, 0.0), 7),
        (Share(2.0, 0.0), 3),
        (Share(0.25, 0.0), 28),
        (Share(1.0, 0.4), 4),  # two on each of two GPUs, none on both
        (Share(1.0, 0.5), 4),
        (Share(2.0, 0.25), 2),
        (Share(1.0, 2.0), 1),
    ],
)
def test_places_are_counted_on_each_node_that_is_alive(
    share: Share, places: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    resources = [{"CPU": 4.0, "GPU": 2.0}, {"CPU": 3.0}, {"memory": 1.0}]
    nodes = [{"Alive": True, "Resources": node} for node in resources]
    monkeypatch.setattr(ray, "nodes", lambda: [*nodes, {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}}])
    assert trial_places(share) == places


@pytest.mark.usefixtures("activations_from_here")
def test_a_trial_that_fails_is_tried_again_then_reported_and_the_others_finish(tmp_path: Path) -> None:
    """A learning rate that cannot work fails one strategy in its workers; the other is stored."""
    profile = tiny_profile(**{"training.fine_tuning.learning_rate": 1e30})
    study = tiny_study(tmp_path, ("off-the-shelf", "fine-tuning-1"), profile)
    progress = RecordedProgress()
    with pytest.raises(TrialsFailed, match=r"2 of 4 trials failed.*fine-tuning-1 fold 0: .*lower the learning rate"):
        run_study(study, engine_ray.run, StudyProgress(progress))
    assert sum("failed and is tried again" in message for message in progress.messages) == 2
    failed = [message for message in progress.messages if message.startswith("FAILED fine-tuning-1 fold ")]
    assert len(failed) == 2
    assert all("lower the learning rate" in message for message in failed)
    assert study.folder.is_finished(TrialKey("off-the-shelf", 1))


@pytest.mark.usefixtures("activations_from_here")
def test_a_folder_that_cannot_be_written_ends_the_study_without_retries(tmp_path: Path) -> None:
    one_at_a_time = tiny_profile(**{"resources.cpu": 4096.0})  # a second worker would only import TensorFlow, too
    study = tiny_study(tmp_path, ("off-the-shelf",), one_at_a_time)
    (tmp_path / "trials").write_text("in the way")
    progress = RecordedProgress()
    with pytest.raises(StorageError, match="fold-"):
        run_study(study, engine_ray.run, StudyProgress(progress))
    assert not any("tried again" in message for message in progress.messages)


A, B = TrialKey("off-the-shelf", 0), TrialKey("off-the-shelf", 1)


def rounds(
    study: StudyRun, monkeypatch: pytest.MonkeyPatch, *failures: dict[TrialKey, Failure], epochs: int = 0
) -> tuple[dict[TrialKey, str], list[list[TrialKey]], list[str]]:
    """Run rounds that end with these failures, after each of which every trial has advanced by `epochs`."""
    requested: list[list[TrialKey]] = []

    def tune(_shared: Shared, todo: list[TrialKey], _progress: StudyProgress) -> dict[TrialKey, Failure]:
        requested.append(todo)
        for key in todo:
            state = trial_state(*key, epoch=epochs * len(requested))
            write_record(study.folder.running_folder(key) / "state.json", state)
        return failures[len(requested) - 1]

    monkeypatch.setattr(engine_ray, "_tune", tune)
    progress = RecordedProgress()
    return (
        run_rounds(Shared(study, {}, Share(1.0, 0.0), "float32"), [A, B], StudyProgress(progress)),
        requested,
        progress.messages,
    )


LOST, BROKEN = Failure("the node died", lost=True), Failure("ValueError: x", lost=False)


def test_trials_that_lost_their_machines_run_in_another_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = tiny_study(tmp_path, ("off-the-shelf",))
    failures, requested, messages = rounds(study, monkeypatch, {A: LOST, B: BROKEN}, {})
    assert failures == {B: "ValueError: x"}
    assert requested == [[A, B], [A]]
    assert messages[0].startswith("1 trials lost their machines")


def test_rounds_continue_while_they_make_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, both = tiny_study(tmp_path, ("off-the-shelf",)), {A: LOST, B: LOST}
    failures, requested, _ = rounds(study, monkeypatch, both, both, {}, epochs=1)
    assert failures == {}
    assert len(requested) == 3


def test_rounds_without_progress_end_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, both = tiny_study(tmp_path, ("off-the-shelf",)), {A: LOST, B: LOST}
    failures, requested, messages = rounds(study, monkeypatch, both, both)
    assert failures == {A: "the node died", B: "the node died"}
    assert len(requested) == 1
    assert "FAILED off-the-shelf fold 0: the node died" in messages


def test_a_trial_with_a_gpu_fits_a_node_with_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """And its share of the GPU follows from the processors beside it, not from those of other nodes."""
    nodes = [{"CPU": 4.0, "GPU": 1.0}, {"CPU": 64.0}]
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": node} for node in nodes])
    memory: list[float | None] = [24.0]
    monkeypatch.setattr(ray, "get", lambda _: memory[0])
    with_gpu, without = (tiny_profile(**{"resources.cpu": 8.0, "resources.gpu": gpu}) for gpu in ("auto", 0.0))
    assert trial_resources(with_gpu, trials=80) == Share(4.0, 1.0)
    assert trial_resources(without, trials=80) == Share(8.0, 0.0)
    memory[0] = None  # the backend of that node does not see it
    assert trial_resources(with_gpu, trials=80) == Share(8.0, 0.0)


def test_a_stated_precision_needs_no_look_at_the_cluster() -> None:
    assert trial_precision("mixed_float16", Share(1.0, 0.5)) == "mixed_float16"
    assert trial_precision("auto", Share(1.0, 0.0)) == "float32"


def test_mps_for_a_cluster_named_by_the_environment_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.2:6379")
    study = tiny_study(tmp_path, ("scratch",), tiny_profile(**{"resources.mps": True}))
    with pytest.raises(ConfigError, match=r"10\.0\.0\.2:6379.*on its nodes"):
        engine_ray.run(study, [TrialKey("scratch", 0)], StudyProgress())


def test_an_absent_gpu_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"resources\.gpu = 0\.5.*0 GPUs"):
        trial_resources(tiny_profile(**{"resources.gpu": 0.5}), trials=8)


def test_more_gpus_than_a_node_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [{"Alive": True, "Resources": {"CPU": 16.0, "GPU": 1.0}}] * 2
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    with pytest.raises(ConfigError, match=r"resources\.gpu = 2 asks for.*1 GPUs on the node that has most"):
        trial_resources(tiny_profile(**{"resources.gpu": 2.0}), trials=8)


def test_a_trial_asks_for_no_more_processors_than_there_are() -> None:
    requested = tiny_profile(**{"resources.cpu": 4096.0, "resources.gpu": 0.0})
    assert trial_resources(requested, trials=8) == Share(ray.cluster_resources()["CPU"], 0.0)

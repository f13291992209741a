from pathlib import Path

import pytest

from cxr_platform.config import ResourcesConfig
from cxr_platform.domain.study import TrialKey
from cxr_platform.errors import StorageError
from cxr_platform.training import engine_local
from cxr_platform.training.folder import StudyFolder
from cxr_platform.training.plan import Share
from cxr_platform.training.progress import StudyProgress
from cxr_platform.training.study import StudyRun
from tests.training.builders import tiny_study

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
    monkeypatch.setattr(engine_local.os, "cpu_count", lambda: 16)
    assert engine_local.local_share(resources, processes) == share


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

"""After a killed worker or driver the champion has the weights of an uninterrupted training."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pyarrow.parquet as pq
import pytest
import ray

from cxr_platform.cluster import connect
from cxr_platform.config import ResourcesConfig
from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.errors import StudyError
from cxr_platform.models.mobilenet import build_network
from cxr_platform.training import champion_ray
from cxr_platform.training.champion import Champion, run_champion
from cxr_platform.training.champion_ray import TASK, champion_resources
from cxr_platform.training.plan import Share
from tests.conftest import REPOSITORY
from tests.recorded_progress import RecordedProgress
from tests.training.champion_runs import (
    EPOCHS,
    HELD,
    NAME,
    champion_study,
    gone,
    holding_mailbox,
    kill,
    uninterrupted,
    workers_of,
)

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def cluster() -> None:
    """The Ray instance that other tests may have started already."""
    connect()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    return uninterrupted(champion_study(tmp_path_factory.mktemp("uninterrupted")))


def weights_of(champion: Champion) -> list[np.ndarray]:
    config = champion_study(champion.folder).plan.profile.model
    network: keras.Model = build_network(strategy_by_name(NAME), config).full
    network.load_weights(champion.weights)
    return list(network.get_weights())


def assert_same(result: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for one, other in zip(result, expected, strict=True):
        assert np.abs(one - other).max() <= 1e-4 * max(1.0, np.abs(other).max())


class KillingProgress(RecordedProgress):
    """Kills the worker after epoch `HELD`, once."""

    def __init__(self) -> None:
        super().__init__()
        self.killed: list[int] = []

    def step(self, task: str, done: int, total: int) -> None:
        super().step(task, done, total)
        if task == TASK and done >= HELD and not self.killed:
            self.killed.extend(workers_of(os.getpid()))
            kill(self.killed[0])


def epochs_of(progress: RecordedProgress) -> list[int]:
    return [done for task, done, _ in progress.steps if task == TASK]


@pytest.mark.usefixtures("activations_from_here")
def test_a_killed_worker_is_restarted_from_its_last_checkpoint(
    tmp_path: Path, expected: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(champion_ray, "_Mailbox", holding_mailbox())
    study, progress = champion_study(tmp_path), KillingProgress()
    champion = run_champion(study.plan, study.folder, lambda: study, None, progress)
    epochs = epochs_of(progress)
    assert progress.killed
    assert any("the worker died" in message for message in progress.messages)
    assert epochs == list(range(1, EPOCHS + 1))
    assert_same(weights_of(champion), expected)
    assert pq.read_table(champion.history)["epoch"].to_pylist() == list(range(1, EPOCHS + 1))
    assert sorted(path.name for path in champion.folder.parent.iterdir()) == [".lock", NAME]


@pytest.mark.usefixtures("activations_from_here")
def test_after_a_killed_driver_the_same_command_continues(tmp_path: Path, expected: list[np.ndarray]) -> None:
    command = [sys.executable, "-m", "tests.training.champion_runs", str(tmp_path)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        for line in driver.stdout:
            if line.startswith(f"{TASK} {HELD} "):
                break
        workers = workers_of(driver.pid)
        driver.kill()
    assert workers
    assert all(gone(worker) for worker in workers)
    study, progress = champion_study(tmp_path), RecordedProgress()
    champion = run_champion(study.plan, study.folder, lambda: study, None, progress)
    kept = [int(text.split()[-1]) for text in progress.messages if text.startswith("continues after epoch")]
    assert kept == [HELD]
    assert epochs_of(progress) == list(range(HELD + 1, EPOCHS + 1))
    assert_same(weights_of(champion), expected)


@pytest.mark.usefixtures("activations_from_here")
def test_a_training_that_cannot_converge_is_refused_and_not_retried(tmp_path: Path) -> None:
    study = champion_study(tmp_path, **{"training.off_the_shelf.learning_rate": 1e30})
    progress = RecordedProgress()
    with pytest.raises(StudyError, match="lower the learning rate"):
        run_champion(study.plan, study.folder, lambda: study, None, progress)
    assert not any("died" in message for message in progress.messages)


def test_progress_that_is_lost_with_a_node_is_no_failure_of_the_training() -> None:
    progress = RecordedProgress()
    with champion_ray._mailbox(progress) as mailbox:
        ray.kill(mailbox)
        champion_ray._ReportRestart(mailbox).after_exception(None, {0: RuntimeError("lost")})
    assert progress.steps == []


def test_the_worker_reserves_the_gpus_that_a_step_uses_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [{"CPU": 64.0}, {"CPU": 16.0, "GPU": 4.0}, {"CPU": 8.0, "GPU": 1.0}]
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True, "Resources": node} for node in nodes])
    assert champion_resources(ResourcesConfig(cpu=2.0), 64) == Share(8.0, 4.0)
    assert champion_resources(ResourcesConfig(cpu=8.0), 64) == Share(16.0, 4.0)
    assert champion_resources(ResourcesConfig(cpu=2.0), 32) == Share(4.0, 2.0), "16 images each"
    assert champion_resources(ResourcesConfig(cpu=2.0), 16) == Share(2.0, 1.0)
    assert champion_resources(ResourcesConfig(cpu=2.0, gpu=0.0), 64) == Share(64.0, 0.0)

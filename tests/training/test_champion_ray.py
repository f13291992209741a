"""Whoever dies, the champion is the one that an uninterrupted training gives."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pyarrow.parquet as pq
import pytest

from cxr_platform.cluster import connect
from cxr_platform.config import ResourcesConfig
from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.errors import StudyError
from cxr_platform.models.mobilenet import build_network
from cxr_platform.training.champion import read_champion, run_champion
from cxr_platform.training.champion_ray import champion_resources
from cxr_platform.training.trial import Epoch
from tests.conftest import REPOSITORY
from tests.training.champion_runs import EPOCHS, NAME, champion_study, gone, kill, uninterrupted, workers_of

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def cluster() -> None:
    """The Ray instance that other tests may have started already."""
    connect()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    return uninterrupted(champion_study(tmp_path_factory.mktemp("uninterrupted")))


def weights_of(folder: Path) -> list[np.ndarray]:
    run = read_champion(folder)
    network: keras.Model = build_network(strategy_by_name(NAME), champion_study(folder).plan.profile.model).full
    network.load_weights(run.weights)
    return list(network.get_weights())


def assert_same(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert np.abs(one - other).max() <= 1e-4 * max(1.0, np.abs(other).max())


def test_a_killed_worker_is_started_again_from_its_last_checkpoint(tmp_path: Path, expected: list[np.ndarray]) -> None:
    study, told, notes, killed = champion_study(tmp_path), [], [], []

    def on_epoch(epoch: Epoch) -> None:
        told.append(epoch.epoch)
        if epoch.epoch >= 3 and not killed:
            killed.extend(workers_of(os.getpid()))
            kill(killed[0])

    folder = run_champion(study.plan, tmp_path, lambda: study, None, on_epoch, notes.append)
    assert killed
    assert any("died" in note for note in notes)
    assert sorted(set(told)) == list(range(1, EPOCHS + 1))
    assert len(told) <= EPOCHS + 2  # an epoch whose report was under way may be told twice, the first ones never
    assert told.count(1) == 1
    assert_same(weights_of(folder), expected)
    assert pq.read_table(folder / "history.parquet")["epoch"].to_pylist() == list(range(1, EPOCHS + 1))
    assert sorted(path.name for path in folder.parent.iterdir()) == [".lock", NAME]


def test_after_a_killed_driver_the_same_command_continues(tmp_path: Path, expected: list[np.ndarray]) -> None:
    command = [sys.executable, "-m", "tests.training.champion_runs", str(tmp_path)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        for line in driver.stdout:
            if line.split() == ["epoch", "3"]:
                break
        workers = workers_of(driver.pid)
        driver.kill()
    assert workers
    assert all(gone(worker) for worker in workers)
    study, told, notes = champion_study(tmp_path), [], []
    folder = run_champion(
        study.plan, tmp_path, lambda: study, None, lambda epoch: told.append(epoch.epoch), notes.append
    )
    (note,) = [note for note in notes if note.startswith("continues after epoch")]
    kept = int(note.split()[-1])
    assert kept >= 3
    assert told == list(range(kept + 1, EPOCHS + 1))
    assert_same(weights_of(folder), expected)


def test_a_training_that_cannot_converge_is_refused_instead_of_tried_again(tmp_path: Path) -> None:
    study = champion_study(tmp_path, **{"training.off_the_shelf.learning_rate": 1e30})
    notes: list[str] = []
    with pytest.raises(StudyError, match="lower the learning rate"):
        run_champion(study.plan, tmp_path, lambda: study, None, lambda _: None, notes.append)
    assert not any("died" in note for note in notes)


def test_the_worker_gets_all_that_a_node_has(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [{"CPU": 64.0}, {"CPU": 16.0, "GPU": 4.0}, {"CPU": 8.0, "GPU": 1.0}]
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True, "Resources": node} for node in nodes])
    assert champion_resources(ResourcesConfig(cpu=2.0)) == (8.0, 4.0)
    assert champion_resources(ResourcesConfig(cpu=8.0)) == (16.0, 4.0)
    assert champion_resources(ResourcesConfig(cpu=2.0, gpu=0.0)) == (64.0, 0.0)

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cxr_platform.errors import ConfigError, StudyError
from pipelines.benchmarks import gpu_measurements, gpu_sharing
from pipelines.benchmarks.gpu_measurements import Training
from tests.pipelines.benchmarks.gpu_builders import Prepared

TRAINING = Training("scratch", 200, 1)


@pytest.mark.usefixtures("prepared")
def test_trials_at_once_are_measured_with_and_without_mps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_sharing, "ways_to_share", lambda: (False, True))
    daemons: list[str] = []

    @contextmanager
    def daemon() -> Iterator[None]:
        daemons.append("started")
        yield

    @contextmanager
    def broken() -> Iterator[None]:
        raise ConfigError("Expected NVIDIA's MPS daemon to start.", received="no permission")
        yield

    monkeypatch.setattr(gpu_sharing, "mps_daemon", daemon)
    found = gpu_sharing.trials_at_once(TRAINING, (1, 2), "mixed_bfloat16", gpus=1.0, memory=80.0)
    assert [(one.trials, one.mps) for one in found] == [(1, False), (2, False), (1, True), (2, True)]
    assert len(daemons) == 1
    monkeypatch.setattr(gpu_sharing, "mps_daemon", broken)
    found = gpu_sharing.trials_at_once(TRAINING, (1, 2), "mixed_bfloat16", gpus=1.0, memory=80.0)
    assert [one.mps for one in found] == [False, False], "what was measured without it is kept"
    assert "no permission" in capsys.readouterr().out

    class Failing(Prepared):
        def end(self) -> dict[str, Any]:
            raise StudyError("Expected the measurement to succeed.", received="no memory")

    monkeypatch.setattr(gpu_measurements, "Measurement", Failing)
    with pytest.raises(StudyError, match="no memory"):
        gpu_sharing.trials_at_once(TRAINING, (1,), "mixed_bfloat16", gpus=1.0, memory=80.0)
    assert "Without MPS: Expected" in capsys.readouterr().out
    monkeypatch.setattr(gpu_measurements, "Measurement", Prepared)
    (alone,) = gpu_sharing.trials_at_once(TRAINING, (1, 8), "float32", gpus=0.0, memory=4.0)
    assert not alone.mps
    assert "8: not measured, as they need 20.0 GiB of GPU memory" in capsys.readouterr().out


def test_the_best_way_to_share_a_gpu_has_the_most_trials_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    ways = [(1, 90.0, False), (4, 100.0, False), (4, 200.0, True), (8, 150.0, True)]
    result = {"at_once": [{"trials": n, "trials_per_hour": rate, "mps": mps} for n, rate, mps in ways]}
    monkeypatch.setattr(gpu_sharing, "ways_to_share", lambda: (False, True))
    assert gpu_sharing.best_at_once(result) == (4, True)
    monkeypatch.setattr(gpu_sharing, "ways_to_share", lambda: (False,))
    assert gpu_sharing.best_at_once(result) == (4, False), "continued on a machine without MPS"
    assert gpu_sharing.best_at_once({"at_once": result["at_once"][2:]}) == (8, False), "measured with it only"
    monkeypatch.setattr(gpu_sharing, "ways_to_share", lambda: (True,))
    assert gpu_sharing.best_at_once(result, only=8) == (8, True)
    assert gpu_sharing.best_at_once(result, only=1) == (1, False), "not measured with the daemon that is running"


@pytest.mark.parametrize(
    ("running", "installed", "ways"),
    [(True, False, (True,)), (False, True, (False, True)), (False, False, (False,))],
)
def test_mps_is_measured_where_it_is_installed(
    running: bool, installed: bool, ways: tuple[bool, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_sharing, "mps_is_running", lambda: running)
    monkeypatch.setattr(shutil, "which", lambda _name: "/usr/bin/mps" if installed else None)
    assert gpu_sharing.ways_to_share() == ways


def test_the_paper_trains_scratch_and_heads_for_their_own_epochs() -> None:
    assert gpu_sharing.images_of_trial("scratch") == (pytest.approx(3905 * 0.9 * 60), 60)
    assert gpu_sharing.images_of_trial("off-the-shelf") == (pytest.approx(3905 * 0.9 * 30), 30)


def test_as_many_trials_run_at_once_as_the_memory_of_the_gpu_holds() -> None:
    assert gpu_sharing.trials_that_fit((1, 2, 4, 8), (32, "mixed_bfloat16"), 16.0) == [1, 2, 4, 8]
    assert gpu_sharing.trials_that_fit((1, 2, 4, 8), (32, "mixed_bfloat16"), 8.0) == [1, 2, 4]
    assert gpu_sharing.trials_that_fit((4, 8), (32, "float32"), 8.0) == [4], (
        "the smallest number is measured in any case"
    )

"""The daemon is a program of the driver; here it is a script that keeps a pipe where the real one does."""

import os
from pathlib import Path

import pytest

from cxr_platform.config import ResourcesConfig
from cxr_platform.errors import ConfigError
from cxr_platform.training import mps
from cxr_platform.training.engine_ray import mps_for

CONTROL = """#!/bin/sh
pipes=${CUDA_MPS_PIPE_DIRECTORY:-/tmp/nvidia-mps}
if [ "$1" = -d ]; then touch "$pipes/control" && exit; fi
read command
[ -e "$pipes/control" ] || { echo "Cannot find MPS control daemon process"; exit 1; }
echo "$command" >> "$(dirname "$0")/commands"
[ "$command" = quit ] && rm "$pipes/control"
exit 0
"""


@pytest.fixture(autouse=True)
def _no_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(mps.PIPES, str(tmp_path / "pipes"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the control program."""
    (tmp_path / mps.CONTROL).write_text(CONTROL)
    (tmp_path / mps.CONTROL).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path


def test_the_daemon_runs_within_the_block_only(control: Path) -> None:
    before = os.environ[mps.PIPES]
    assert not mps.mps_is_running()
    with mps.mps_daemon():
        assert mps.mps_is_running()
        assert os.environ[mps.PIPES] != before
    assert not mps.mps_is_running()
    assert os.environ[mps.PIPES] == before
    assert mps.LOGS not in os.environ
    assert (control / "commands").read_text().splitlines()[-1] == "quit"


def test_a_daemon_that_runs_is_used_and_left_running(control: Path) -> None:
    with mps.mps_daemon():
        with mps.mps_daemon():
            pass
        assert mps.mps_is_running()


def test_in_a_container_without_the_control_program_the_pipe_decides(tmp_path: Path) -> None:
    assert not mps.mps_is_running()
    (tmp_path / "pipes").mkdir()
    (tmp_path / "pipes" / "control").touch()
    assert mps.mps_is_running()


def test_a_pipe_that_a_dead_daemon_left_is_not_one_that_runs(control: Path, tmp_path: Path) -> None:
    (tmp_path / "pipes").mkdir()
    (tmp_path / "pipes" / "control").touch()
    (control / mps.CONTROL).write_text("#!/bin/sh\nexit 1\n")
    assert not mps.mps_is_running()


def test_without_the_program_mps_is_refused_with_what_to_do() -> None:
    with (
        pytest.raises(ConfigError, match=r"nvidia-cuda-mps-control on the PATH.*Leave resources\.mps out"),
        mps_for(ResourcesConfig(mps=True)),
    ):
        pass


def test_on_a_cluster_the_nodes_have_to_start_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with mps_for(ResourcesConfig(), "10.0.0.1:6379"):
        pass
    with pytest.raises(ConfigError, match=r"10\.0\.0\.1:6379.*Start nvidia-cuda-mps-control -d on its nodes"):
        mps_for(ResourcesConfig(mps=True), "10.0.0.1:6379")
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.2:6379")
    with pytest.raises(ConfigError, match=r"10\.0\.0\.2:6379"):
        mps_for(ResourcesConfig(mps=True))

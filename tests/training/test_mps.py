"""The daemon is a program of the driver; here it is a script that keeps a pipe where the real one does."""

import os
import shutil
from pathlib import Path

import pytest

from cxr_platform.config import ResourcesConfig
from cxr_platform.errors import ConfigError
from cxr_platform.training import mps
from cxr_platform.training.mps import mps_for

CONTROL = """#!/bin/sh
pipes=${CUDA_MPS_PIPE_DIRECTORY:-/tmp/nvidia-mps}
if [ "$1" = -d ]; then touch "$pipes/control" && exit; fi
read command
[ -e "$pipes/control" ] || { echo "Cannot find MPS control daemon process"; exit 1; }
echo "$command" >> "$(dirname "$0")/commands"
[ "$command" = "quit -t 5" ] && rm "$pipes/control"
exit 0
"""


@pytest.fixture(autouse=True)
def _no_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The programs that the scripts here need, and not the driver's, which may be installed."""
    monkeypatch.setenv(mps.PIPES, str(tmp_path / "pipes"))
    (tmp_path / "tools").mkdir()
    for name in ("sh", "touch", "rm", "dirname", "sleep"):
        (tmp_path / "tools" / name).symlink_to(shutil.which(name) or name)
    monkeypatch.setenv("PATH", str(tmp_path / "tools"))


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
    assert (control / "commands").read_text().splitlines()[-1] == "quit -t 5"


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


def test_a_daemon_that_does_not_answer_is_not_one_that_runs(
    control: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mps, "ANSWER_SECONDS", 0.2)
    (tmp_path / "pipes").mkdir()
    (tmp_path / "pipes" / "control").touch()
    (control / mps.CONTROL).write_text("#!/bin/sh\nexec sleep 60\n")
    assert not mps.mps_is_running()


def test_a_daemon_that_does_not_start_is_an_error_with_its_reason(control: Path) -> None:
    (control / mps.CONTROL).write_text("#!/bin/sh\necho no permission >&2\nexit 1\n")
    with pytest.raises(ConfigError, match=r"daemon to start\. Received: no permission"), mps.mps_daemon():
        pass


def test_a_daemon_that_does_not_stop_is_reported_and_the_study_keeps_its_result(
    control: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (control / mps.CONTROL).write_text('#!/bin/sh\n[ "$1" = -d ] || exec sleep 60\n')
    with mps.mps_daemon():
        monkeypatch.setattr(mps, "ANSWER_SECONDS", 0.2)
    assert "did not stop" in caplog.text

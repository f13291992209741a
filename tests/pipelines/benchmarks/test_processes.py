import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from cxr_platform.errors import StudyError
from pipelines.benchmarks.processes import Usage, descendants, processor_seconds, run_watched, watch, watched_gpu
from tests.waiting import wait_until


def test_the_idle_share_is_what_processors_did_not_use_of_the_time() -> None:
    usage = Usage(10.0, [(0.0, 0.0), (4.0, 8.0), (10.0, 14.0)])
    assert usage.idle_share(cores=2) == pytest.approx(0.3)
    assert usage.idle_share(2, 0.0, 4.0) == 0.0
    assert usage.idle_share(2, 4.0) == pytest.approx(0.5)
    assert usage.idle_share(2, 10.0) == 0.0, "no time has passed"


def test_a_process_that_a_child_started_is_a_descendant() -> None:
    command = [sys.executable, "-c", "import subprocess; subprocess.run(['sleep', '60'])"]
    found: list[int] = []
    with subprocess.Popen(command) as process:
        try:
            wait_until(lambda: found.extend(descendants(process.pid)) or found)
        finally:
            process.terminate()
            subprocess.run(["kill", *map(str, found)], check=False)
    assert len(found) == 1


def test_the_processor_time_of_an_ended_process_is_zero() -> None:
    assert processor_seconds(os.getpid()) > 0
    assert processor_seconds(2**30) == 0.0


def test_a_command_is_measured_and_one_that_fails_is_an_error() -> None:
    usage = run_watched(["timeit", "-n1", "-r1", "pass"], sample=0.01)
    assert usage.seconds > 0
    with pytest.raises(StudyError, match="No module named nothing"):
        run_watched(["nothing"], sample=0.01)


def test_the_load_of_the_gpu_is_the_mean_of_what_the_driver_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with watched_gpu() as busy:
        assert busy() is None, "no driver"
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 80\necho 100\nexec /bin/sleep 60\n")
    tool.chmod(0o755)
    with watched_gpu() as busy:
        wait_until(lambda: busy() not in (None, 0.8))
        assert busy() == pytest.approx(0.9)


def test_memory_of_a_process_and_its_largest_descendant_is_measured(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    child = f"import pathlib, sys; x = bytearray(90 * 2**20); pathlib.Path({str(ready)!r}).touch(); sys.stdin.read()"
    parent = f"import subprocess, sys; x = bytearray(40 * 2**20); subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE) as process:
        measured: list[bool] = []

        def poll() -> int | None:
            """Return `None`, once when the child has its memory, so that it is measured then, and then 0."""
            if any(measured):
                return 0
            measured.append(ready.exists())
            return None

        peaks = watch(cast("subprocess.Popen[bytes]", SimpleNamespace(pid=process.pid, poll=poll)), sample=0.01)
        process.communicate()
    assert 40 < peaks.own_mib < 90 < peaks.largest_other_mib
    assert min(peaks.read_gib, peaks.written_gib) >= 0.0

"""The results of `cxr gpu-study`, from a study that other tests share."""

import json
import os
import shutil
import signal
import subprocess
import tarfile
from pathlib import Path

import pytest

from cxr_platform.manifest.store import open_manifest
from cxr_platform.training.devices import hardware
from pipelines import gpu_study
from tests.pipelines.benchmarks.test_gpu_study_results import BENCHMARK, result
from tests.waiting import wait_until


def test_a_study_is_measured_kept_and_continued_elsewhere(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], _seconds: float | None) -> int:
        """Stand for the processes: the benchmark writes its result, and the study is one that exists."""
        asked.append(command)
        if "--json" in command:
            Path(command[command.index("--json") + 1]).write_text(json.dumps(BENCHMARK))
        else:
            shutil.copytree(work / "runs" / "t", Path(command[command.index("--runs") + 1]) / "gpu", dirs_exist_ok=True)
        return 0

    monkeypatch.setattr(gpu_study, "_run", run)
    packed = tmp_path / "images.parquet"
    assert gpu_study.main(["pack", "--manifest", str(work / "manifest"), "--out", str(packed)]) == 0
    options = ["--images", str(packed), "--profile", str(work / "tiny.toml")]
    first = ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "first")]
    assert gpu_study.main(["run", *options, *first]) == 0
    assert [command[0] for command in asked] == ["pipelines.benchmarks.gpu", "pipelines.cross_validate"]
    assert asked[1][-2:] == ["--processes", "4"], "the fastest of the benchmark"
    written = json.loads((tmp_path / "out" / "gpu-study.json").read_text())
    assert (written["study"]["finished"], written["study"]["jpeg_quality"]) == (2, 95)
    with tarfile.open(tmp_path / "out" / "progress.tar.gz") as archive:
        names = archive.getnames()
    assert "gpu/trials/scratch/fold-0/trial.json" in names
    assert not [name for name in names if name.endswith(".h5")]
    again = ["--out", str(tmp_path / "out2"), "--work", str(tmp_path / "second")]
    assert gpu_study.main(["run", *options, *again, "--resume", str(tmp_path / "out" / "progress.tar.gz")]) == 0
    assert len(asked) == 3, "the benchmark is not run again"
    assert len(json.loads((tmp_path / "out2" / "gpu-study.json").read_text())["study"]["calls"]) == 2
    target = tmp_path / "docs" / "page.md"
    assert gpu_study.main(["page", "--results", str(tmp_path / "out2" / "gpu-study.json"), "--out", str(target)]) == 0
    assert "2 of 2 trials" in target.read_text()


class EndsOnceReady(subprocess.Popen[bytes]):
    """A process whose first wait with a limit is over once it has made the file `ready`."""

    ready: Path
    waited = False

    def wait(self, timeout: float | None = None) -> int:
        if timeout is None or self.waited:
            return super().wait(timeout)
        self.waited = True
        wait_until(self.ready.exists, 300)
        raise subprocess.TimeoutExpired(self.args, timeout)


def test_a_command_whose_time_is_over_is_interrupted_and_then_killed_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int] = []
    monkeypatch.setattr(os, "killpg", lambda group, sent: (killed.append(sent), os.kill(-group, sent)))
    assert gpu_study._run(["timeit", "-n1", "-r1", "1 / 0"], None) == 1
    assert killed == []
    monkeypatch.setattr(gpu_study, "STOP_SECONDS", 0.1)
    monkeypatch.setattr(subprocess, "Popen", EndsOnceReady)
    monkeypatch.setattr(EndsOnceReady, "ready", ready := tmp_path / "ready", raising=False)
    ignore = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    sleep = f"open({str(ready)!r}, 'w').close(); time.sleep(600)"
    assert gpu_study._run(["timeit", "-n1", "-r1", "-s", ignore, sleep], 10.0) is None
    assert killed == [signal.SIGKILL]


def test_a_machine_that_is_taken_away_interrupts_what_runs() -> None:
    before = signal.getsignal(signal.SIGTERM)
    sleep = ["timeit", "-n1", "-r1", "import os, signal, time; os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)"]
    with pytest.raises(KeyboardInterrupt):
        gpu_study._run(sleep, None)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_study_that_its_time_ended_is_no_failure(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = iter([None, 2])
    monkeypatch.setattr(gpu_study, "_run", lambda _command, _seconds: next(codes))
    places = ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work"), "--skip-benchmark"]
    command = ["run", "--images", str(work / "manifest"), *places]
    assert gpu_study.main(command) == 0
    assert gpu_study.main(command) == 2, "the study could not be run"


def test_a_command_in_the_background_of_a_shell_ends_by_itself_when_its_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There SIGINT is ignored, also by the processes that are started."""
    monkeypatch.setattr(EndsOnceReady, "ready", ready := tmp_path / "ready", raising=False)
    ended = tmp_path / "ended"
    sleep = f"import time\ntry: open({str(ready)!r}, 'w'); time.sleep(600)\nfinally: open({str(ended)!r}, 'w')"
    monkeypatch.setattr(gpu_study, "STOP_SECONDS", 300.0)
    monkeypatch.setattr(subprocess, "Popen", EndsOnceReady)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert gpu_study._run(["timeit", "-n1", "-r1", sleep], 10.0) is None
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.exists()


def test_an_interrupted_study_keeps_its_seconds_and_its_progress(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_command: list[str], _seconds: float | None) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(gpu_study, "_run", interrupted)
    places = ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work"), "--skip-benchmark"]
    command = ["run", "--images", str(work / "manifest"), "--processes", "3", *places]
    assert [gpu_study.main(command) for _ in range(2)] == [130, 130]
    calls = json.loads((tmp_path / "work" / "calls.json").read_text())
    assert [call["processes"] for call in calls] == [3, 3]
    with tarfile.open(tmp_path / "out" / "progress.tar.gz") as archive:
        assert archive.getnames() == ["calls.json"]


def test_a_benchmark_without_trials_at_once_is_completed_by_a_later_call_in_its_share_of_the_seconds(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[list[str], float | None]] = []

    def run(command: list[str], seconds: float | None) -> int | None:
        """The first benchmark has speeds only when its time is over, the second all."""
        asked.append((command, seconds))
        if "--json" in command:
            at_once = BENCHMARK["at_once"] if "--only-at-once" in command else []
            result = {**BENCHMARK, "at_once": at_once, "hardware": hardware().model_dump(mode="json")}
            Path(command[command.index("--json") + 1]).write_text(json.dumps(result))
        return None

    monkeypatch.setattr(gpu_study, "_run", run)
    places = ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]
    command = ["run", "--images", str(work / "manifest"), "--seconds", "1035", *places]
    assert [gpu_study.main(command) for _ in range(3)] == [0, 0, 0]
    benchmarks = [(command, seconds) for command, seconds in asked if "--json" in command]
    assert ["--only-at-once" in command for command, _ in benchmarks] == [False, True]
    assert all(seconds is not None and 300 < seconds <= 400 for _, seconds in benchmarks)
    studies = [(command[-1], seconds) for command, seconds in asked if "--json" not in command]
    assert [processes for processes, _ in studies][1:] == ["4", "4"], "the fastest of the benchmark"
    assert all(seconds is not None and 900 < seconds <= 1000 for _, seconds in studies)


def test_a_limit_makes_a_part_of_the_manifest(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(gpu_study, "_run", lambda command, _seconds: asked.append(command) or 0)
    places = ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work"), "--skip-benchmark"]
    command = ["run", "--images", str(work / "manifest"), *places]
    assert gpu_study.main([*command, "--limit", "4"]) == 0
    part = Path(asked[0][asked[0].index("--manifest") + 1])
    assert part == tmp_path / "work" / "manifest-part"
    assert open_manifest(part).info.images == 28
    assert gpu_study.main([*command, "--classes", "any"]) == 2
    assert "Expected no --classes" in capsys.readouterr().err


def test_progress_of_an_earlier_call_is_not_replaced_by_one_that_begins_anew(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = tmp_path / "out" / "progress.tar.gz"
    progress.parent.mkdir()
    progress.write_bytes(b"hours of trials")
    places = ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]
    assert gpu_study.main(["run", "--images", str(work / "manifest"), *places]) == 2
    assert f"Add --resume {progress}" in capsys.readouterr().err
    assert progress.read_bytes() == b"hours of trials"


@pytest.mark.parametrize("seconds", ["0", "-5", "nan", "35"])
def test_seconds_leave_some_for_the_study(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu_study.main(["run", "--images", "m", "--out", "o", "--seconds", seconds])
    assert "argument --seconds: expected" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, b"no archive"])
def test_progress_that_is_absent_or_no_archive_is_one_line(
    content: bytes | None, work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "progress.tar.gz").write_bytes(content)
    places = ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]
    resumed = ["--resume", str(tmp_path / "progress.tar.gz")]
    assert gpu_study.main(["run", "--images", str(work / "manifest"), *places, *resumed]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"Expected the progress.tar.gz of an earlier call in {tmp_path}")


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("--strategies", "nosuch", "Expected a strategy out of"),
        ("--processes", "0", "expected a whole number of at least 1, not '0'"),
        ("--processes", "-2", "expected a whole number of at least 1, not '-2'"),
    ],
)
def test_options_are_checked_before_anything_runs(
    option: str, value: str, error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        gpu_study.main(["run", "--images", "images", "--out", "out", f"{option}={value}"])
    assert f"{option}: {error}" in capsys.readouterr().err


@pytest.mark.parametrize(("value", "error"), [("200", "from 1 to 100, not '200'"), ("0", "of at least 1, not '0'")])
def test_a_quality_that_jpeg_does_not_have_is_refused(
    value: str, error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        gpu_study.main(["pack", "--manifest", "m", "--out", "images.parquet", "--quality", value])
    assert error in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("{", "Expected the results of a run in"),
        ("[]", "Expected the results of a run in"),
        (json.dumps({"benchmark": "gpu", "at_once": []}), "Expected a complete result of this version in"),
        (json.dumps({"benchmark": "gpu-study", "study": {}}), "Expected a complete result of this version in"),
    ],
)
def test_results_of_another_kind_are_one_line(
    content: str, error: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.json").write_text(content)
    assert gpu_study.main(["page", "--results", str(tmp_path / "a.json"), "--out", str(tmp_path / "p.md")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(error)


@pytest.mark.parametrize(
    ("name", "content"), [("gpu.json", "{"), ("gpu.json", "[]"), ("calls.json", "{"), ("calls.json", "{}")]
)
def test_damaged_files_of_an_earlier_call_are_one_line(
    name: str,
    content: str,
    work: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(gpu_study, "_run", lambda _command, _seconds: 0)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / name).write_text(content)
    places = ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work"), "--skip-benchmark"]
    assert gpu_study.main(["run", "--images", str(work / "manifest"), *places]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / "work" / name) in line
    assert "Delete the file" in line


def test_the_notes_of_a_page_are_kept(tmp_path: Path) -> None:
    results, page = tmp_path / "gpu-study.json", tmp_path / "page.md"
    measured = {**result(None, {"finished": 0}), "benchmark": "gpu-study"}
    results.write_text(json.dumps(measured))
    page.write_text("# Old\n\n## Notes\n\nBy hand.\n")
    assert gpu_study.main(["page", "--results", str(results), "--out", str(page)]) == 0
    text = page.read_text()
    assert text.startswith("# NVIDIA H100")
    assert text.endswith("\n## Notes\n\nBy hand.\n")


def test_a_benchmark_that_fails_ends_the_run(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_study, "_run", lambda _command, _seconds: 2)
    places = ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]
    assert gpu_study.main(["run", "--images", str(work / "manifest"), *places]) == 2
    assert "cxr benchmark gpu" in capsys.readouterr().err

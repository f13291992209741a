import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cxr_platform.domain.study import CacheUse
from pipelines import benchmark
from pipelines.benchmarks import archive, processes
from pipelines.benchmarks.archive import Stage, verdicts
from pipelines.benchmarks.processes import peak_mib

SMALL = [
    Stage("manifest", 20, 10.0, 600.0, 900.0, 0.1, 0.2),
    Stage("study", 20, 20.0, 700.0, 1000.0, 0.1, 0.2),
    Stage("report", 20, 5.0, 800.0, 500.0, 0.1, 0.2),
]
LARGE = [
    Stage("manifest", 100, 50.0, 700.0, 900.0, 0.1, 0.2),
    Stage("study", 100, 100.0, 800.0, 1200.0, 0.1, 0.2),
    Stage("report", 100, 25.0, 1000.0, 500.0, 0.1, 0.2),
]
HOLD = """
import os, pathlib, time

def hold(file):
    block, file = os.urandom(2**26), pathlib.Path(file)
    file.touch()
    for _ in range(6000):
        if not file.exists():
            break
        time.sleep(0.02)
"""
"""Takes memory until its file is removed, for some minutes at most."""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The module that is run in place of every stage, with its arguments. It ends once its memory was measured."""
    holding = tmp_path / "holding"

    def read(pid: int) -> float:
        held, mib = holding.exists(), peak_mib(pid)
        if held and mib > 64:
            holding.unlink()
        return mib

    monkeypatch.setattr(processes, "peak_mib", read)
    words = ["timeit", "-n", "1", "-r", "1", "-s", HOLD, f"hold({str(holding)!r})"]
    monkeypatch.setattr(archive, "draw", lambda *_: None)
    monkeypatch.setattr(archive, "_cache_use", lambda _: CacheUse(hits=3, misses=1).model_dump())
    monkeypatch.setattr(archive, "_command", lambda *_: words)
    return words


def measure(tmp_path: Path) -> int:
    sizes = ["--images", "100", "--fewer", "20"]
    return benchmark.main(["archive", *sizes, "--work", str(tmp_path), "--json", str(tmp_path / "result.json")])


def test_memory_within_the_limits_is_said_to_be() -> None:
    lines = verdicts(SMALL, LARGE)
    assert lines[1] == "study: 5.0 times the images take 5.0 times the time and 1.20 times the peak memory"
    assert lines[-1] == (
        "largest process 1200 MiB (study), 1.20 times that of fewer images; limits 3072 MiB and 1.3 times: met"
    )


@pytest.mark.parametrize("mib", [1400.0, 4000.0])
def test_memory_above_a_limit_is_said_to_be(mib: float) -> None:
    large = [LARGE[0], replace(LARGE[1], worker_mib=mib), LARGE[2]]
    assert verdicts(SMALL, large)[-1].endswith("missed")


def test_every_stage_is_measured_once(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert measure(tmp_path) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert [(stage["images"], stage["name"]) for stage in result["stages"]] == [
        (images, name) for images in (20, 100) for name in ("manifest", "study", "report")
    ]
    assert [(use["images"], use["hits"]) for use in result["caches"]] == [(20, 3), (100, 3)]
    assert all(stage["driver_mib"] > 64 and stage["seconds"] > 0 for stage in result["stages"])
    command[:] = ["no_such_module"]  # what was measured is not measured again
    assert measure(tmp_path) == 0
    assert json.loads((tmp_path / "result.json").read_text())["stages"] == result["stages"]
    assert "largest process" in capsys.readouterr().out


def test_a_stage_that_fails_is_an_error_that_names_its_log(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command[:] = ["no_such_module"]
    assert measure(tmp_path) == 2
    log = tmp_path / "20" / "manifest.log"
    assert f"Read {log}." in capsys.readouterr().err
    assert f"{sys.executable}: No module named no_such_module" in log.read_text()


def test_the_stages_are_commands_of_the_platform(tmp_path: Path) -> None:
    request = archive.ArchiveRequest(100, 20, tmp_path, tmp_path / "weights.h5", None)
    for name in archive.STAGES:
        module, *words = archive._command(request, tmp_path / "100", name)
        parser = __import__(module, fromlist=["parser"]).parser()
        parser.parse_args(words)

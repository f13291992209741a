"""The verb on a real manifest of phantom images, as a person runs it: a command, its output, its exit code."""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from cxr_platform.domain.study import read_study
from cxr_platform.evaluation.predictions import load_origin_predictions
from cxr_platform.training import devices, engine_local
from pipelines import cross_validate
from tests.conftest import REPOSITORY
from tests.evaluation.origin_study import images
from tests.evaluation.stored import write_manifest
from tests.pipelines.small_study import PROFILE

KILLED_AFTER_A_TRIAL = """
import os, signal, sys
from cxr_platform.training.progress import StudyProgress
from pipelines import cross_validate

StudyProgress.finished = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
cross_validate.main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("profile") / "tiny.toml"
    file.write_text(PROFILE)
    return file


@pytest.fixture(scope="module")
def manifest(work: Path) -> Path:
    return work / "manifest"


def arguments(manifest: Path, profile: Path, runs: Path, *more: str) -> list[str]:
    named = ["--manifest", str(manifest), "--profile", str(profile), "--runs", str(runs), "--name", "t"]
    return [*named, "--strategies", "scratch", "--engine", "local", *more]


def test_a_finished_study_is_not_run_again(
    manifest: Path, work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = arguments(manifest, work / "tiny.toml", work / "runs", "--no-report")
    assert cross_validate.main([*request, "--metrics-dir", str(tmp_path)]) == 0
    assert "0 trials to run, 2 kept from before" in capsys.readouterr().out
    assert 'trials{state="finished",study="t"} 2.0' in (tmp_path / "cxr_study_t.prom").read_text()
    assert pq.read_table(work / "runs" / "t" / "predictions.parquet").num_rows == 56


def test_a_gpu_that_keras_does_not_see_is_said_to_be_unused(
    manifest: Path,
    work: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for module in (devices, engine_local):
        monkeypatch.setattr(module, "gpu_memory_gib", lambda: 8.0)
        monkeypatch.setattr(module, "backend_sees_gpu", lambda: False)
    request = arguments(manifest, work / "tiny.toml", work / "runs", "--no-report")
    assert cross_validate.main(request) == 0
    output = capsys.readouterr().out
    assert "The GPU of this machine is not used: Keras on tensorflow sees none." in output
    assert "`make setup STACK=tensorflow CUDA=12`" in output
    unwanted = tmp_path / "processors.toml"
    unwanted.write_text((work / "tiny.toml").read_text() + "gpu = 0.0\n")
    assert cross_validate.main(arguments(manifest, unwanted, tmp_path, "--no-report")) == 0
    assert "not used" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--strategies", "foo"], "Expected a strategy out of off-the-shelf"),
        (["--folds", "3"], "Expected a manifest split into 3 folds"),
        (["--engine", "ray", "--processes", "2"], "Received: --processes 2 --engine ray"),
        (["--manifest", "nowhere"], "nowhere"),
        (["--profile", "nothing"], "Expected a profile name (demo, paper, quick, robust)"),
        (
            ["--strategies", "off-the-shelf", "--imagenet-weights", "absent.h5"],
            "Expected ImageNet weights at absent.h5",
        ),
    ],
)
def test_a_request_that_cannot_be_run_is_one_line_and_exit_code_2_before_training(
    more: list[str],
    message: str,
    manifest: Path,
    profile: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cross_validate.main([*arguments(manifest, profile, tmp_path), *more]) == 2
    text = capsys.readouterr().err
    assert message in text
    assert "Traceback" not in text
    assert len(text.strip().splitlines()) == 1
    assert not (tmp_path / "t").exists()


def test_settings_of_a_robust_head_without_that_strategy_have_no_effect_which_is_printed(
    profile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = arguments(tmp_path / "absent", profile, tmp_path)
    assert cross_validate.main(request) == 2
    assert capsys.readouterr().out == ""
    assert cross_validate.main([*request, "--profile", "robust"]) == 2
    assert capsys.readouterr().out == "[robust] of the profile robust has no effect without the strategy robust.\n"
    assert cross_validate.main([*request, "--profile", "robust", "--strategies", "all,robust"]) == 2
    assert capsys.readouterr().out == ""


def test_one_process_cannot_share_a_gpu(manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sharing = tmp_path / "sharing.toml"
    sharing.write_text(PROFILE.replace("cpu = 1.0", "cpu = 1.0\nmps = true"))
    assert cross_validate.main(arguments(manifest, sharing, tmp_path)) == 2
    assert "Expected several processes that share a GPU for resources.mps" in capsys.readouterr().err


def test_a_runs_folder_that_cannot_be_created_is_exit_code_2(manifest: Path, profile: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert cross_validate.main(arguments(manifest, profile, tmp_path / "file")) == 2


@pytest.mark.ray
def test_a_killed_study_is_continued_by_the_same_command(
    manifest: Path, profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_at_a_time = tmp_path / "wide.toml"
    one_at_a_time.write_text(PROFILE.replace("cpu = 1.0", "cpu = 4096.0"))
    words = arguments(manifest, one_at_a_time, Path("runs"), "--engine", "ray", "--no-report")
    command = [sys.executable, "-c", KILLED_AFTER_A_TRIAL, *words]
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "PYTHONPATH": str(REPOSITORY)}
    with (tmp_path / "log").open("w") as log:  # no pipe, which the processes of Ray would hold
        options: dict[str, Any] = {"stdout": log, "stderr": log, "start_new_session": True}
        first = subprocess.run(command, cwd=tmp_path, env=environment, **options)
    assert first.returncode == -signal.SIGKILL, (tmp_path / "log").read_text()
    folders = {file.parent for file in (tmp_path / "runs" / "t" / "trials" / "scratch").glob("fold-*/trial.json")}
    assert len(folders) == 1, "trials run one at a time, and this process starts them"
    finished = {file: file.stat().st_mtime_ns for folder in folders for file in folder.iterdir()}
    monkeypatch.chdir(tmp_path)
    assert cross_validate.main(words) == 0
    assert {file: file.stat().st_mtime_ns for file in finished} == finished
    rows = pq.read_table(tmp_path / "runs" / "t" / "predictions.parquet")
    assert set(Counter(rows["image_id"].to_pylist()).values()) == {1}
    assert rows.num_rows == 56


def test_storage_and_runs_exclude_each_other(
    manifest: Path, profile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cross_validate.main(arguments(manifest, profile, tmp_path / "runs", "--storage", str(tmp_path))) == 2
    assert "Leave one of them out" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_each_fold_of_the_protocol_origins_leaves_a_hospital_out(
    profile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = images()
    write_manifest(tmp_path / "manifest", shown.assign(fold=np.arange(len(shown)) % 2))
    request = [*arguments(tmp_path / "manifest", profile, tmp_path), "--protocol", "origins"]
    assert cross_validate.main(request) == 0
    out = capsys.readouterr().out
    assert "1 strategies × 3 origins left out in turn: east, south, west" in out
    assert f"cxr report --study … --origins {tmp_path / 't'}" in out
    study = read_study(tmp_path / "t")
    frame = load_origin_predictions(tmp_path / "t", study)
    for origin, rows in frame.groupby("left_out"):
        unseen = rows["origin"] == origin
        assert unseen.sum() == (shown["source"] == origin).sum()
        assert (~unseen).sum() == (shown["source"] != origin).sum() / 2  # one of two grouped folds
    assert not (tmp_path / "t" / "report").exists()

    assert cross_validate.main(request) == 0
    assert "0 trials to run, 3 kept from before" in capsys.readouterr().out


def test_one_hospital_cannot_be_left_out(
    manifest: Path, profile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cross_validate.main([*arguments(manifest, profile, tmp_path), "--protocol", "origins"]) == 2
    assert "Expected at least 2 origins (hospitals or publications)" in capsys.readouterr().err
    assert not (tmp_path / "t").exists()

import json
import os
from pathlib import Path

import pytest

from pipelines import benchmark
from pipelines.benchmarks import manifest
from pipelines.benchmarks.decoding import Rates
from pipelines.benchmarks.manifest import Build, measure
from pipelines.benchmarks.processes import peak_mib

RATES = Rates(
    10, bare=100, image=80, worker=70, worker_with_keypoints=40, two_processes=1.9, libraries={"PNG": "opencv"}
)


def test_the_peak_memory_of_an_ended_process_is_zero() -> None:
    assert 1 < peak_mib(os.getpid()) < 1e6
    assert peak_mib(2**30) == 0.0


@pytest.mark.ray
def test_the_memory_of_the_workers_of_a_build_is_measured(tmp_path: Path) -> None:
    manifest.draw(tmp_path / "images-70", 70)
    build = measure(tmp_path, 70)
    assert (tmp_path / "manifest-70" / "manifest.json").exists()
    assert build.driver_mib > 50
    assert build.worker_mib > 50
    assert build.seconds_per_thousand == pytest.approx(build.seconds / 70 * 1000)


def test_both_builds_and_their_ratios_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    builds = {100: Build(100, 2.0, 100.0, 200.0), 400: Build(400, 9.0, 110.0, 210.0)}
    monkeypatch.setattr(manifest, "draw", lambda *_: None)
    monkeypatch.setattr(manifest, "measure", lambda _, images: builds[images])
    monkeypatch.setattr(manifest, "measure_rates", lambda *_: RATES)
    result = tmp_path / "result.json"
    assert benchmark.main(["manifest", "--images", "400", "--work", str(tmp_path), "--json", str(result)]) == 0
    output = capsys.readouterr().out
    assert "worker with keypoints:     40, ratio 0.40" in output
    assert "1.90 times as fast" in output
    written = json.loads(result.read_text())
    assert written["decoding"]["ratios"]["worker"] == 0.7
    assert written["hardware"]["processors"] == os.cpu_count()
    assert written["versions"]["pyarrow"]
    assert [build["images"] for build in written["builds"]] == [100, 400]
    assert "ratio: driver 1.10, other process 1.05, seconds per thousand 1.12" in output


def test_a_build_that_fails_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(manifest, "draw", lambda *_: None)
    monkeypatch.setattr(manifest, "measure_rates", lambda *_: RATES)
    assert benchmark.main(["manifest", "--images", "28", "--work", str(tmp_path / "absent")]) == 2
    assert "exit code 2" in capsys.readouterr().err


@pytest.mark.parametrize("images", ["20", "-1", "many"])
def test_images_of_which_no_quarter_can_be_drawn_are_refused(
    images: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        benchmark.main(["manifest", f"--images={images}", "--work", str(tmp_path)])
    assert f"--images: expected 0, or at least 28 images, not '{images}'" in capsys.readouterr().err

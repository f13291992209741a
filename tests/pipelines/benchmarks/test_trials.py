import json
from dataclasses import replace
from pathlib import Path

import pytest

from cxr_platform.config import load_profile
from cxr_platform.domain.study import TrialKey
from cxr_platform.training import engine_local
from cxr_platform.training.study import run_study
from pipelines import benchmark
from pipelines.benchmarks.sleeping_study import NotedTimes, places_of, sleeping_study
from pipelines.benchmarks.trials import Measured, lines, verdict

FEW = Measured(
    trials=10,
    places=2,
    start=9.0,
    makespan=3.0,
    simulated=1.0,
    first_half=1.5,
    second_half=1.5,
    driver_cpu=0.3,
    files=0.08,
    driver_mib=800.0,
    status=0.01,
    status_command=1.0,
)
MANY = replace(FEW, trials=40, makespan=12.0, simulated=4.0, driver_cpu=1.2, status=0.04, driver_mib=815.0)


def test_the_overhead_is_the_time_of_a_place_beyond_its_trials() -> None:
    assert FEW.overhead == pytest.approx(2.0 * 2 / 10)
    assert FEW.scheduling == pytest.approx(0.32)


def test_what_grows_worse_than_linearly_is_named() -> None:
    assert verdict(FEW, MANY).startswith("nothing worse than linear (exponents: the driver's CPU time 1.00,")
    assert verdict(FEW, MANY).endswith("; 512 KiB of the driver's memory per trial")
    assert verdict(FEW, replace(MANY, driver_cpu=2.4)).startswith("worse than linear: the driver's CPU time (")
    assert verdict(FEW, replace(MANY, status=0.16)).startswith("worse than linear: reading the status (")


def test_the_table_has_both_studies_beside_the_simulator() -> None:
    text = "\n".join(lines(FEW, MANY))
    assert "simulated, s                       1.0         4.0" in text
    assert "overhead per trial, ms             400         400" in text


def test_a_sleeping_study_is_stored_like_any_other(tmp_path: Path) -> None:
    study, times = sleeping_study(tmp_path / "study", 8, seconds=0.01), NotedTimes()
    predictions = run_study(study, engine_local.run, times)
    assert predictions.exists()
    assert study.folder.finished(study.plan.trials()) == {TrialKey("scratch", fold) for fold in range(8)}
    assert len(times.ends) == 8
    assert times.ends == sorted(times.ends)
    assert min(times.seconds) >= 0.01


def test_places_follow_from_the_share_of_a_trial_and_the_largest_node() -> None:
    half = load_profile("quick", {"resources.cpu": 0.5})
    assert places_of(half, cpus=3.0, largest=1.0) == 6
    assert places_of(load_profile("quick", {"resources.cpu": 4.0}), cpus=6.0, largest=2.0) == 3


@pytest.mark.ray
def test_the_benchmark_runs_both_studies_and_prints_their_growth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "trials.json"
    options = ["--trials", "8", "--seconds", "0.01", "--work", str(tmp_path), "--json", str(file)]
    assert benchmark.main(["trials", *options]) == 0
    result = json.loads(file.read_text())
    assert [result[size]["trials"] for size in ("few", "many")] == [2, 8]
    for size in ("few", "many"):
        assert result[size]["simulated"] > 0
        assert result[size]["driver_mib"] > 0
    assert result["verdict"] in capsys.readouterr().out


@pytest.mark.parametrize("options", [["--trials", "7"], ["--seconds", "0"], ["--trials-per-cpu", "0"]])
def test_too_few_trials_and_trials_of_no_length_are_refused(
    tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark.main(["trials", "--work", str(tmp_path), *options]) == 2
    assert "Expected at least 8 trials" in capsys.readouterr().err

import argparse
import json
from pathlib import Path

import pytest

from cxr_platform.training.devices import hardware
from pipelines import benchmark
from pipelines.benchmarks import gpu, gpu_sharing
from tests.pipelines.benchmarks.gpu_builders import Prepared


@pytest.mark.usefixtures("prepared")
def test_speeds_limits_and_trials_an_hour_are_printed_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gpu.json"
    command = ["gpu", "--batch-sizes", "32", "--precisions", "float32", "--at-once", "1,2", "--json", str(file)]
    assert benchmark.main(command) == 0
    assert "261 MMAC forward, 1.57 GFLOP" in capsys.readouterr().out
    result = json.loads(file.read_text())
    (speed,) = result["speeds"]
    assert speed["of_limit"] == 0.5, "of the lower limit"
    one, two = result["at_once"]
    assert (one["images_per_second"], two["images_per_second"]) == pytest.approx((120.0, 160.0))
    assert one["trials_per_hour"] == pytest.approx(3600 * 120 / (3905 * 0.9 * 60))
    assert len(set(Prepared.windows)) == 2, "trials at once are measured over the same time"
    assert gpu_sharing.best_at_once(result) == (2, False)


@pytest.mark.usefixtures("prepared")
def test_speeds_are_kept_where_trials_at_once_cannot_be_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_arguments: object) -> list[gpu_sharing.AtOnce]:
        raise KeyboardInterrupt

    monkeypatch.setattr(gpu, "trials_at_once", interrupted)
    file = tmp_path / "gpu.json"
    command = ["gpu", "--batch-sizes", "32", "--precisions", "float32", "--json", str(file)]
    assert benchmark.main(command) == 130
    result = json.loads(file.read_text())
    assert (len(result["speeds"]), result["at_once"]) == (1, [])


@pytest.mark.usefixtures("prepared")
def test_trials_at_once_are_added_to_the_speeds_of_an_earlier_call(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gpu.json"
    command = ["gpu", "--at-once", "1", "--only-at-once", "--json", str(file)]
    assert benchmark.main(command) == 2
    assert "Expected an earlier result" in capsys.readouterr().err
    earlier = {"strategy": "scratch", "input_size": 200, "batches": 24, "limits": {"a": 1}, "speeds": [{"loop": 5}]}
    earlier["hardware"] = hardware().model_dump(mode="json")
    file.write_text(json.dumps({**earlier, "at_once": [], "date": "2001-01-01"}))
    assert benchmark.main(command) == 0
    result = json.loads(file.read_text())
    assert {name: result[name] for name in earlier} == earlier
    assert [one["trials"] for one in result["at_once"]] == [1]
    assert result["date"] != "2001-01-01", "of this call"
    assert benchmark.main([*command, "--input-size", "96"]) == 2
    assert "another input_size: 200" in capsys.readouterr().err
    file.write_text(json.dumps({**earlier, "hardware": {"gpus": ["another"]}}))
    assert benchmark.main(command) == 2, "speeds of another machine are none of this one"


def test_lists_of_options_are_checked() -> None:
    assert gpu.numbers("1, 8") == (1, 8)
    for text in ("0", ",", "2,-1", "many"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected a whole number of at least 1"):
            gpu.numbers(text)
    with pytest.raises(argparse.ArgumentTypeError, match="mixed_bfloat16"):
        gpu.parse_precisions("float64")


def test_a_measurement_has_batches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        benchmark.main(["gpu", "--batches", "0"])
    assert "--batches: expected a whole number of at least 1, not '0'" in capsys.readouterr().err

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from pipelines import benchmark
from pipelines.benchmarks import gpu

RATE = {"flop": 2e12, "moved_bytes": 1e11}
LIMITS = {
    "work": {"macs": 261e6, "outputs": 5.5e6, "flop": 1.57e9},
    "device": {"float32": RATE},
    "images_per_second": {"float32": {"arithmetic_limit": 1000.0, "memory_limit": 400.0}},
}
STEP = {"loop": 200.0, "bare_step": 210.0, "model_fit": 100.0, "loop_to_model_fit": 2.0}


class Prepared:
    """A measurement with a known result; two trials that run together are slower than one."""

    running = 0

    def __init__(self, prepare: Any, *_: Any) -> None:
        self._kind = prepare

    def __enter__(self) -> "Prepared":
        return self

    def __exit__(self, *_: object) -> None: ...

    def close(self) -> None: ...

    def wait(self) -> None: ...

    def begin(self) -> None:
        Prepared.running += 1

    def end(self) -> dict[str, Any]:
        rate = 120.0 / Prepared.running if Prepared.running == 1 else 80.0
        return {"images_per_second": rate}

    def result(self) -> dict[str, Any]:
        return LIMITS if self._kind is gpu.prepare_limits else STEP


def test_speeds_limits_and_trials_an_hour_are_printed_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "Measurement", Prepared)
    Prepared.running = 0
    file = tmp_path / "gpu.json"
    command = ["gpu", "--batch-sizes", "32", "--precisions", "float32", "--at-once", "1,2", "--json", str(file)]
    assert benchmark.main(command) == 0
    assert "261 MMAC forward, 1.57 GFLOP" in capsys.readouterr().out
    result = json.loads(file.read_text())
    (speed,) = result["speeds"]
    assert speed["of_limit"] == 0.5, "of the lower limit"
    one, two = result["at_once"]
    assert (one["images_per_second"], two["images_per_second"]) == (120.0, 160.0)
    assert one["trials_per_hour"] == pytest.approx(3600 * 120 / (3905 * 0.9 * 60), rel=0.5)
    assert gpu.best_at_once(result) == 2


def test_the_memory_of_the_gpu_is_divided_by_the_size_of_the_batches() -> None:
    assert gpu.memory_shares([(32, "float32"), (64, "mixed_bfloat16"), (64, "float32")], 1.0) == [0.25, 0.25, 0.5]
    assert gpu.memory_shares([(32, "float32")], 0.0) == [0.0]


def test_lists_of_options_are_checked() -> None:
    assert gpu.numbers("1,8") == (1, 8)
    with pytest.raises(argparse.ArgumentTypeError, match="at least 1"):
        gpu.numbers("0")
    with pytest.raises(argparse.ArgumentTypeError, match="mixed_bfloat16"):
        gpu.parse_precisions("float64")

import json
from pathlib import Path

import numpy as np
import pytest

from cxr_platform.config import ModelConfig
from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.models.mobilenet import build_network
from cxr_platform.training import devices, engine_local
from cxr_platform.training.step import Placement
from cxr_platform.training.trial import Workbench
from pipelines import benchmark
from pipelines.benchmarks import step
from pipelines.benchmarks.step import StepSpeed


def test_every_precision_is_a_row_and_16_bits_have_depthwise_convolutions_both_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(name: str, bench: Workbench, _: object, float32_depthwise: bool, rounds: int) -> StepSpeed:
        assert rounds == 9
        assert bench.placement.deterministic
        depthwise = None if name == "off-the-shelf" else "float32" if float32_depthwise else bench.precision
        return StepSpeed(name, bench.precision, depthwise, 30.0, 40.0, 20.0, 0.75, 1.5)

    monkeypatch.setattr(step, "measure", measure)
    words = ["step", "--strategies", "off-the-shelf,scratch", "--precision", "mixed_bfloat16,float32", "--rounds", "9"]
    assert benchmark.main([*words, "--json", str(tmp_path / "step.json")]) == 0
    speeds = json.loads((tmp_path / "step.json").read_text())["speeds"]
    assert [(s["strategy"], s["precision"], s["depthwise"]) for s in speeds] == [
        ("off-the-shelf", "float32", None),  # its head has no convolutions
        ("off-the-shelf", "mixed_bfloat16", None),
        ("scratch", "float32", "float32"),
        ("scratch", "mixed_bfloat16", "mixed_bfloat16"),
        ("scratch", "mixed_bfloat16", "float32"),
    ]
    assert len(capsys.readouterr().out.splitlines()) == 6


@pytest.mark.parametrize(("more", "deterministic"), [([], False), (["--deterministic"], True)])
def test_on_a_gpu_a_step_is_measured_as_trials_run_there_unless_asked_for(
    more: list[str], deterministic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    placements: list[Placement] = []

    def measure(name: str, bench: Workbench, *_: object) -> StepSpeed:
        placements.append(bench.placement)
        return StepSpeed(name, bench.precision, None, 30.0, 40.0, 20.0, 0.75, 1.5)

    limits: list[tuple[float, bool]] = []
    monkeypatch.setattr(step, "measure", measure)
    monkeypatch.setattr(engine_local, "gpu_memory_gib", lambda: 16.0)
    monkeypatch.setattr(engine_local, "backend_sees_gpu", lambda: True)
    monkeypatch.setattr(devices, "gpu_memory_gib", lambda: 16.0)
    monkeypatch.setattr(devices, "limit_process", lambda _cpus, gpus, repeats: limits.append((gpus, repeats)))
    assert benchmark.main(["step", "--strategies", "off-the-shelf", "--input-size", "32", *more]) == 0
    assert placements == [Placement(deterministic=deterministic, resident_bytes=devices.resident_bytes(1.0) or 0)]
    assert limits == [(1.0, deterministic)]


def test_depthwise_convolutions_alone_can_be_float32() -> None:
    model = ModelConfig(input_size=32, alpha=0.35)
    full = build_network(strategy_by_name("scratch"), model, "mixed_bfloat16").full
    assert step.depthwise_type(full) == "bfloat16"
    assert step.depthwise_type(full, "float32") == "float32"
    assert full.get_layer("Conv1").compute_dtype == "bfloat16"
    assert full(np.zeros((1, 32, 32, 3), "float32")).dtype == "float32"
    assert step.depthwise_type(build_network(strategy_by_name("off-the-shelf"), model).upper) is None


def test_rounds_are_a_positive_whole_number(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        benchmark.main(["step", "--rounds", "0"])
    assert "expected a whole number of at least 1, not '0'" in capsys.readouterr().err


def test_an_unknown_precision_is_refused_with_the_names(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        benchmark.main(["step", "--precision", "float64"])
    assert "expected names out of float32, mixed_bfloat16, mixed_float16, not 'float64'" in capsys.readouterr().err

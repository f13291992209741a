import json
from pathlib import Path

import pytest

from pipelines import benchmark
from pipelines.benchmarks import step
from pipelines.benchmarks.step import StepSpeed


def test_every_precision_is_a_row_and_16_bits_have_depthwise_convolutions_both_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(name: str, _size: int, precision: str, float32_depthwise: bool) -> StepSpeed:
        return StepSpeed(name, precision, "float32" if float32_depthwise else precision, 30.0, 40.0, 20.0, 0.75, 1.5)  # type: ignore[arg-type]

    monkeypatch.setattr(step, "measure", measure)
    words = ["step", "--strategies", "off-the-shelf,scratch", "--precision", "mixed_bfloat16,float32"]
    assert benchmark.main([*words, "--json", str(tmp_path / "step.json")]) == 0
    speeds = json.loads((tmp_path / "step.json").read_text())["speeds"]
    assert [(s["strategy"], s["precision"], s["depthwise"]) for s in speeds] == [
        ("off-the-shelf", "float32", "float32"),
        ("off-the-shelf", "mixed_bfloat16", "mixed_bfloat16"),  # its head has no convolutions
        ("scratch", "float32", "float32"),
        ("scratch", "mixed_bfloat16", "mixed_bfloat16"),
        ("scratch", "mixed_bfloat16", "float32"),
    ]
    assert len(capsys.readouterr().out.splitlines()) == 6


def test_an_unknown_precision_is_refused_with_the_names(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        benchmark.main(["step", "--precision", "float64"])
    assert "expected names out of float32, mixed_bfloat16, mixed_float16, not 'float64'" in capsys.readouterr().err

import json
from pathlib import Path

import pytest

from pipelines import benchmark


def test_speeds_and_ratios_of_a_strategy_are_printed_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "step.json"
    command = ["step", "--strategies", "off-the-shelf", "--input-size", "32", "--json", str(file)]
    assert benchmark.main(command) == 0
    assert "loop / bare step" in capsys.readouterr().out
    result = json.loads(file.read_text())
    (speed,) = result["speeds"]
    assert speed["strategy"] == "off-the-shelf"
    assert all(speed[name] > 0 for name in ("loop", "bare_step", "model_fit", "loop_to_bare_step"))
    assert result["versions"]["keras"]

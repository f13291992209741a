import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cxr_platform.errors import ConfigError
from pipelines import benchmark
from pipelines.benchmarks import growth


def test_the_exponent_is_the_slope_of_the_logarithms() -> None:
    assert growth.exponent([1, 2, 4], [3, 6, 12]) == pytest.approx(1.0)
    assert growth.exponent([1, 2, 4], [1, 4, 16]) == pytest.approx(2.0)
    with pytest.raises(ConfigError, match="two different amounts"):
        growth.exponent([2, 2], [1, 1])
    with pytest.raises(ConfigError, match="longer than the start-up"):
        growth.exponent([1, 2], [-0.1, 1])


@pytest.mark.parametrize(
    ("power", "sentence"), [(1.0, "nothing worse than linear"), (2.0, "worse than linear: images")]
)
def test_series_exponents_and_the_verdict_are_printed_and_written(
    power: float,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def part(_source: Path, _folder: Path, options: Any) -> SimpleNamespace:
        limit = options.limit or 80
        info = SimpleNamespace(images=7 * limit, folds=options.folds or 3, counts={"Normal": {"a": limit}})
        return SimpleNamespace(folder=tmp_path, info=info)

    def measure(_request: object, manifest: Any, name: str, strategies: tuple[str, ...], anew: bool = True) -> float:
        if not anew:
            return 10.0
        amount = {"images": manifest.info.images**power, "folds": manifest.info.folds - 1.0}
        return 10.0 + amount.get(name, float(len(strategies)))

    monkeypatch.setattr(growth, "manifest_of_size", part)
    monkeypatch.setattr(growth, "_measure", measure)
    file = tmp_path / "growth.json"
    command = ["growth", "--manifest", "m", "--work", str(tmp_path), "--json", str(file)]
    assert benchmark.main(command) == 0
    assert sentence in capsys.readouterr().out
    result = json.loads(file.read_text())
    exponents = {series["of"]: series["exponent"] for series in result["series"]}
    assert exponents == pytest.approx({"images": power, "folds − 1": 1.0, "strategies": 1.0})
    assert result["start_up_seconds"] == 10.0

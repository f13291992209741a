import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from cxr_platform.errors import ConfigError
from cxr_platform.training import devices, engine_local
from pipelines import benchmark
from pipelines.benchmarks import gpu
from pipelines.benchmarks.gpu_measurements import Training, prepare_limits, prepare_step

RATE = {"flop": 2e12, "moved_bytes": 1e11}
LIMITS = {
    "work": {"macs": 261e6, "outputs": 5.5e6, "flop": 1.57e9},
    "device": {"float32": RATE},
    "images_per_second": {"float32": {"arithmetic_limit": 1000.0, "memory_limit": 400.0}},
}
STEP = {"loop": 200.0, "bare_step": 210.0, "model_fit": 100.0, "loop_to_model_fit": 2.0}


class Prepared:
    """A measurement with a known result; two trials that run together are slower than one."""

    windows: ClassVar[list[tuple[float, float]]] = []

    def __init__(self, prepare: Any, *_: Any) -> None:
        self._kind = prepare

    def __enter__(self) -> "Prepared":
        return self

    def __exit__(self, *_: object) -> None: ...

    def close(self) -> None: ...

    def wait(self) -> None: ...

    def begin(self, begin: float, end: float) -> None:
        Prepared.windows.append((begin, end))
        self._seconds = end - begin

    def end(self) -> dict[str, Any]:
        alone = Prepared.windows.count(Prepared.windows[-1]) == 1
        return {"images": self._seconds * (120.0 if alone else 80.0)}

    def result(self) -> dict[str, Any]:
        return LIMITS if self._kind is prepare_limits else STEP


def test_speeds_limits_and_trials_an_hour_are_printed_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "Measurement", Prepared)
    monkeypatch.setattr(Prepared, "windows", [])
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
    assert gpu.best_at_once(result) == (2, False)


def test_trials_at_once_are_measured_with_and_without_mps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "Measurement", Prepared)
    monkeypatch.setattr(Prepared, "windows", [])
    monkeypatch.setattr(devices, "gpu_memory_gib", lambda: 80.0)
    monkeypatch.setattr(engine_local, "gpu_memory_gib", lambda: 80.0)
    monkeypatch.setattr(gpu, "ways_to_share", lambda: (False, True))
    daemons: list[str] = []

    @contextmanager
    def daemon() -> Iterator[None]:
        daemons.append("started")
        yield

    monkeypatch.setattr(gpu, "mps_daemon", daemon)
    file = tmp_path / "gpu.json"
    command = ["gpu", "--batch-sizes", "32", "--precisions", "float32", "--at-once", "1,2", "--json", str(file)]
    assert benchmark.main(command) == 0
    assert [(one["trials"], one["mps"]) for one in json.loads(file.read_text())["at_once"]] == [
        (1, False),
        (2, False),
        (1, True),
        (2, True),
    ]
    assert len(daemons) == 1

    @contextmanager
    def broken() -> Iterator[None]:
        raise ConfigError("Expected NVIDIA's MPS daemon to start.", received="no permission")
        yield

    monkeypatch.setattr(gpu, "mps_daemon", broken)
    assert benchmark.main(command) == 0, "what was measured without it is kept"
    assert [one["mps"] for one in json.loads(file.read_text())["at_once"]] == [False, False]
    assert "no permission" in capsys.readouterr().out


def test_the_best_way_to_share_a_gpu_has_the_most_trials_an_hour() -> None:
    ways = [(1, 90.0, False), (4, 100.0, False), (4, 200.0, True), (8, 150.0, True)]
    result = {"at_once": [{"trials": n, "trials_per_hour": rate, "mps": mps} for n, rate, mps in ways]}
    assert gpu.best_at_once(result) == (4, True)


@pytest.mark.parametrize(
    ("running", "installed", "ways"),
    [(True, False, (True,)), (False, True, (False, True)), (False, False, (False,))],
)
def test_mps_is_measured_where_it_is_installed(
    running: bool, installed: bool, ways: tuple[bool, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "mps_is_running", lambda: running)
    monkeypatch.setattr(gpu.shutil, "which", lambda _name: "/usr/bin/mps" if installed else None)
    assert gpu.ways_to_share() == ways


def test_the_paper_trains_scratch_and_heads_for_their_own_epochs() -> None:
    assert gpu.images_of_trial("scratch") == (pytest.approx(3905 * 0.9 * 60), 60)
    assert gpu.images_of_trial("off-the-shelf") == (pytest.approx(3905 * 0.9 * 30), 30)


def test_measurements_are_prepared_in_groups_that_the_memory_of_the_gpu_holds() -> None:
    sizes = [(64, "float32"), (32, "float32"), (128, "float32"), (32, "mixed_bfloat16"), (32, "float32")]
    assert [gpu.gib_of(size) for size in sizes] == [5.0, 2.5, 10.0, 1.25, 2.5]

    def groups(memory: float) -> list[list[gpu.Size]]:
        parts: list[gpu.Part] = [(size, prepare_step, size) for size in sizes]
        return [[size for size, *_ in group] for group in gpu.groups_that_fit(parts, memory)]

    assert groups(80.0) == [sizes]
    assert groups(16.0) == [sizes[:2], sizes[2:]]
    assert groups(8.0) == [sizes[:2], sizes[2:3], sizes[3:]], "one that is too large is tried alone"


def test_as_many_trials_run_at_once_as_the_memory_of_the_gpu_holds() -> None:
    assert gpu.trials_that_fit((1, 2, 4, 8), (32, "mixed_bfloat16"), 16.0) == [1, 2, 4, 8]
    assert gpu.trials_that_fit((1, 2, 4, 8), (32, "mixed_bfloat16"), 8.0) == [1, 2, 4]
    assert gpu.trials_that_fit((4, 8), (32, "float32"), 8.0) == [4], "the smallest number is measured in any case"


def test_each_measurement_gets_memory_in_proportion_to_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[float] = []

    class Started(Prepared):
        def __init__(self, _prepare: Any, _training: Any, share: float, *_: Any) -> None:
            shares.append(share)

    monkeypatch.setattr(gpu, "Measurement", Started)
    parts: list[gpu.Part] = [(size, prepare_step, size) for size in ((32, "float32"), (96, "float32"))]
    for gpus in (1.0, 0.0):
        with gpu._prepared(Training("scratch", 200, 1), parts, gpus):
            pass
    assert shares == [0.25, 0.75, 0.0, 0.0]


def test_lists_of_options_are_checked() -> None:
    assert gpu.numbers("1,8") == (1, 8)
    with pytest.raises(argparse.ArgumentTypeError, match="at least 1"):
        gpu.numbers("0")
    with pytest.raises(argparse.ArgumentTypeError, match="mixed_bfloat16"):
        gpu.parse_precisions("float64")

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from cxr_platform.errors import ServingError
from pipelines import benchmark
from pipelines.benchmarks import serving
from pipelines.benchmarks.load_clients import Answer, Load
from tests.serving.builders import image_png, registry_with_champion


@pytest.fixture
def work(tmp_path: Path) -> Path:
    registry_with_champion(tmp_path / "registry")
    (tmp_path / "image.png").write_bytes(image_png())
    return tmp_path


def loads(*statuses: int) -> Load:
    return Load([Answer(0, float(i), 0.02, status, "v1") for i, status in enumerate(statuses)], 2.0)


def run(work: Path, monkeypatch: pytest.MonkeyPatch, ours: Load, plain: Load) -> int:
    monkeypatch.setattr(serving, "BARE_SECONDS", 0.1)
    answers = {"pipelines.serve": ours, "pipelines.benchmarks.plain_server": plain}

    def load_on(command: Sequence[str], images: Sequence[bytes], _: object) -> Load:
        assert images == [image_png()]
        return answers[command[0]]

    monkeypatch.setattr(serving, "_load_on", load_on)
    return benchmark.main(["serving", "--registry", str(work / "registry"), "--data", str(work)])


def test_rates_latencies_and_ratios_are_printed(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(work, monkeypatch, loads(*[200] * 40), loads(*[200] * 4)) == 0
    output = capsys.readouterr().out
    assert "this server     20.0 images/s" in output
    (bare,) = re.findall(r"no HTTP +([\d.]+) images/s", output)
    (ratio,) = re.findall(r"this server / decoding and ONNX Runtime +([\d.]+)", output)
    assert float(ratio) == pytest.approx(20 / float(bare), abs=0.01)
    assert "p50 20 ms, p99 20 ms, answers 200: 40" in output
    assert "this server / plain application   10.0" in output


def test_refused_requests_are_not_counted_as_lost(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(work, monkeypatch, loads(200, 429, 429), loads(200)) == 0
    assert "refused for now (429): 2; lost (no answer, or 5xx): 0" in capsys.readouterr().out


@pytest.mark.parametrize("status", [0, 500, 503])
def test_a_lost_request_is_exit_code_1(work: Path, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    assert run(work, monkeypatch, loads(200, status), loads(200)) == 1


def test_a_folder_without_images_is_an_error(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (work / "image.png").unlink()
    assert run(work, monkeypatch, loads(200), loads(200)) == 2
    assert str(work) in capsys.readouterr().err


def test_a_server_that_ends_before_it_is_ready_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def process(_: Sequence[str]) -> Iterator[object]:
        yield SimpleNamespace(poll=lambda: 2)

    monkeypatch.setattr(serving, "_process", process)
    with pytest.raises(ServingError, match="ready on port"):
        serving._load_on(["nothing"], [b""], None)  # type: ignore[arg-type]

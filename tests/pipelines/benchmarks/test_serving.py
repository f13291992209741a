import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cxr_platform.intake.images import sniff
from cxr_platform.serving.screener import prepare_image
from pipelines import benchmark
from pipelines.benchmarks import serving
from pipelines.benchmarks.load_clients import Answer, Load
from pipelines.benchmarks.page import page
from pipelines.benchmarks.screening_servers import Screened
from pipelines.benchmarks.serving import Rates, drawn_images, in_turns
from tests.registry.builders import preprocessing
from tests.serving.builders import image_png, registry_with_champion

RATES = {"pipelines.serve": 40, "pipelines.benchmarks.plain_server": 4, "pipelines.benchmarks.peer_litserve": 20}
DRAWN = [b"drawn", b"another"]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    registry_with_champion(tmp_path / "registry")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "image.png").write_bytes(image_png())
    return tmp_path


def load_of(*statuses: int) -> Load:
    return Load([Answer(0, float(i), 0.02, status, "v1") for i, status in enumerate(statuses)], 1.0)


class Servers:
    """Replaces servers and their clients: `started` are the modules, `loads` (module, images, clients)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, status: int = 200) -> None:
        self.started: list[str] = []
        self.loads: list[tuple[str, Sequence[bytes], int]] = []
        self.running = 0
        self.status = status
        monkeypatch.setattr(serving, "running_server", self.running_server)
        monkeypatch.setattr(serving, "no_http", self.no_http)
        monkeypatch.setattr(serving, "run_load", self.run_load)
        monkeypatch.setattr(serving, "drawn_images", lambda: DRAWN)
        monkeypatch.setattr(serving, "peer_versions", lambda _: {"bentoml": "1", "litserve": "2"})
        monkeypatch.setattr(serving, "PEERS", {"LitServe": "pipelines.benchmarks.peer_litserve"})

    @contextmanager
    def running_server(self, command: Sequence[str]) -> Iterator[int]:
        self.started.append(command[2])
        self.running += 1
        yield len(self.started) - 1
        self.running -= 1

    @contextmanager
    def no_http(self, _folder: Path, images: Sequence[bytes]) -> Iterator[Any]:
        assert images == DRAWN
        yield lambda _seconds: Screened(50.0, 30.0, 10.0)

    def run_load(self, port: int, path: str, images: Sequence[bytes], *, clients: int, seconds: float) -> Load:
        assert (path, self.running) == ("/v1/screen", len(self.started))
        self.loads.append((self.started[port], images, clients))
        answered = RATES[self.started[port]]
        return load_of(*[200] * answered, *([self.status] if self.status != 200 and seconds == 15 else []))


def run(work: Path, *options: str) -> int:
    return benchmark.main(["serving", "--registry", str(work / "registry"), *options])


def test_servers_are_compared_and_this_one_is_measured_at_several_loads(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    servers, file = Servers(monkeypatch), work / "result.json"
    options = ["--clients", "1,8", "--rounds", "2", "--files", str(work / "files"), "--peers", "python"]
    assert run(work, *options, "--json", str(file)) == 0
    assert (servers.started, servers.running) == (list(RATES), 0)
    compared = [(name, clients) for name, _, clients in servers.loads if clients == 32]
    warm_up = [(name, 32) for name in RATES]
    assert compared == [*warm_up, *warm_up, *warm_up[::-1]], "the second round goes backwards"
    alone = [(images, clients) for _, images, clients in servers.loads if clients != 32]
    assert alone == [(images, clients) for images in (DRAWN, [image_png()]) for clients in (1, 8)]

    result = json.loads(file.read_text(encoding="utf-8"))
    ratios = {serving.NO_HTTP: 0.8, serving.PLAIN: 10.0, "LitServe": 2.0}
    assert result["ratios"] == pytest.approx(ratios)
    ours = result["compared"][serving.OURS]
    assert (ours["images_per_second"], ours["p50_ms"], ours["statuses"]) == (40, pytest.approx(20), {"200": 80})
    assert ours["a_core"] == 40 / serving.cores()
    assert result["servers"]["litserve"] == "2"
    bare = result["compared"][serving.NO_HTTP]
    assert (bare["images_per_second"], bare["decode_ms"], bare["network_ms"]) == (50, 30, 10)
    assert result["largest_network_gain"] == pytest.approx(1 / (1 - 0.010 * 40 / serving.cores()) - 1)
    assert result["hardware"]
    text = page({file: result})
    assert "| images/s at least 0.85 of decoding and ONNX Runtime, no HTTP | 0.80 | **no** |" in text
    assert "| images/s at least 1 of LitServe | 2.00 | yes |" in text
    assert "| this server, 320 px, 8 clients | 40.0 | " in text
    assert [(row["images"], row["clients"]) for row in result["alone"]] == [
        ("320 px", 1), ("320 px", 8), ("files", 1), ("files", 8)
    ]  # fmt: skip
    output = capsys.readouterr().out
    assert "decoding takes 30.0 ms of processor time per image, the network 10.0 ms" in output
    assert "decoding takes 30.0 ms of processor time per image, the network 10.0 ms" in text
    assert "this server / LitServe: 2.00" in output
    assert f"this server {'':24}     40.0" in output


def test_refused_requests_are_not_counted_as_lost(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Servers(monkeypatch, status=429)
    assert run(work, "--no-plain", "--clients", "128") == 0
    assert "429: 1" in capsys.readouterr().out


@pytest.mark.parametrize("status", [0, 500, 503])
def test_a_lost_request_is_exit_code_1(work: Path, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    Servers(monkeypatch, status=status)
    assert run(work, "--no-plain", "--clients", "1", "--rounds", "1") == 1


def test_a_folder_without_images_is_an_error(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Servers(monkeypatch)
    (work / "files" / "image.png").unlink()
    assert run(work, "--files", str(work / "files")) == 2
    assert str(work) in capsys.readouterr().err


def test_figures_are_medians_of_the_rounds() -> None:
    answers = iter([load_of(*[200] * n) for n in (10, 90, 20)])
    assert in_turns({"a": lambda: next(answers)}, 3)["a"].rate == 20
    assert Rates([5.0, 1.0, 2.0]).fields["images_per_second"] == 2


def test_the_gain_of_a_faster_network_is_bounded_by_its_share_of_the_servers_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving, "cores", lambda: 2)
    bare, server = Rates([300.0], stages={"decode_ms": 4.0, "network_ms": 2.5}), Rates([160.0])
    gain = serving.network_gain(bare, server)  # 2.5 ms of 12.5 ms
    assert gain == pytest.approx(0.25)
    assert "at most 25 % more images per second; one of half the time gains at most 11 %" in serving.stages_text(
        bare.fields, gain
    )


def test_drawn_images_are_always_the_same_and_are_screened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "IMAGES", 1)
    (image,) = drawn_images()
    assert [image] == drawn_images()
    assert sniff(image) == "PNG"
    assert prepare_image(image, preprocessing(96)).findings == ()

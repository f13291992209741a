"""The verb on a registry of its own; the client behind it is in tests/serving/test_client.py."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cxr_platform.errors import ServingError
from cxr_platform.registry.store import Registry
from cxr_platform.serving import client
from cxr_platform.serving.screener import Screener
from pipelines.screen import main
from tests.intake.files import dicom
from tests.serving.builders import image, image_png, registry_with_champion


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("work")
    registry_with_champion(work / "registry")
    (work / "image.png").write_bytes(image_png())
    (work / "notes.png").write_text("no image")
    return work


def screen(work: Path, *files: str, more: tuple[str, ...] = ()) -> int:
    return main([*(str(work / file) for file in files), "--registry", str(work / "registry"), *more])


def test_the_table_shows_decision_model_and_notice(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert screen(work, "image.png") == 0
    output = capsys.readouterr().out
    assert "Covid19 probability is" in " ".join(output.replace("│", " ").split())
    assert "Model v1, scratch; trained on synthetic images" in output
    assert "For research, not for diagnosis." in output


def test_one_line_of_json_per_file_and_exit_code_1_if_one_has_no_answer(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert screen(work, "image.png", "notes.png", more=("--json",)) == 1
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["file"].endswith("image.png")
    assert sum(first["result"]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert second["problem"]["reason"] == "not-an-image"


def test_a_lateral_view_is_answered_as_not_screenable(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "lateral.dcm").write_bytes(dicom(image(1), ViewPosition="LL"))
    assert screen(work, "lateral.dcm", more=("--json",)) == 0
    result = json.loads(capsys.readouterr().out)["result"]
    assert (result["decision"], result["findings"][0]["code"]) == ("not-screenable", "view")
    assert screen(work, "lateral.dcm") == 0
    output = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "not-screenable" in output
    assert "The image is not screenable" in output


def test_an_image_without_an_answer_has_a_row_with_the_reason(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert screen(work, "notes.png") == 1
    assert "no answer" in capsys.readouterr().out


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_answers_are_printed_even_if_the_server_goes_away(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    @contextmanager
    def remote(url: str, key: str) -> Iterator[Callable[[bytes], object]]:
        ask = client.local_screen(Screener(*Registry(work / "registry").open(), threads=1))
        turns = iter([ask, ask])

        def failing(data: bytes) -> object:
            turn = next(turns, None)
            if turn is None:
                raise ServingError(f"Expected a screening server at {url}.", received="connection refused")
            return turn(data)

        yield failing

    monkeypatch.setattr(client, "remote_screen", remote)
    for name in ("b.png", "c.png"):
        (work / name).write_bytes(image_png(1))
    assert screen(work, "image.png", "b.png", "c.png", more=("--url", "http://server", *more)) == 2
    output = capsys.readouterr()
    assert [name in output.out for name in ("image.png", "b.png", "c.png")] == [True, True, False]
    assert "connection refused" in output.err


@pytest.mark.parametrize(
    ("files", "more", "message"),
    [
        (("nowhere.png",), (), "Expected a readable image"),
        (("image.png", "nowhere.png"), (), "Expected a readable image"),
        (("image.png",), ("--version", "v9"), "v9"),
        (("image.png",), ("--registry", "nowhere"), "Expected a champion"),
        (("image.png",), ("--url", "http://127.0.0.1:9"), "make serve"),
    ],
)
def test_a_missing_file_champion_or_server_is_exit_code_2(
    work: Path, capsys: pytest.CaptureFixture[str], files: tuple[str, ...], more: tuple[str, ...], message: str
) -> None:
    assert screen(work, *files, more=more) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error

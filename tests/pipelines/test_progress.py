"""Bars on a terminal, plain lines in a file."""

import io

import pytest

from pipelines import progress as module
from pipelines.progress import PlainLines, make_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_file_gets_a_line_when_a_task_ends_and_not_per_image() -> None:
    stream = io.StringIO()
    with make_progress(stream) as progress:
        assert isinstance(progress, PlainLines)
        for done in range(101):
            progress.step("Heatmaps", done, 100)
        progress.message("Writing [tables]")
    assert stream.getvalue().splitlines() == ["Heatmaps: 100/100", "Writing [tables]"]


def test_a_long_task_gets_lines_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.0)
    with make_progress(stream) as progress:
        progress.step("Heatmaps", 1, 100)
    assert stream.getvalue() == "Heatmaps: 1/100\n"


def test_a_terminal_gets_bars_and_messages_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    stream = Terminal()
    with make_progress(stream) as progress:
        progress.step("Heatmaps", 3, 4)
        progress.message("images [a/b] left out")
        progress.step("Heatmaps", 4, 4)
    assert "4/4" in stream.getvalue()
    assert "images [a/b] left out" in stream.getvalue()


def test_lines_are_seconds_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    clock = iter([0.0, 5.0, 11.0, 12.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    lines = PlainLines(stream)
    for done in (1, 2, 3):
        lines.step("Decoding", done, 9)
    assert stream.getvalue() == "Decoding: 2/9\n"

"""How far a verb is: bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from cxr_platform.manifest.progress import BuildProgress

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def make_progress(stream: TextIO) -> Iterator[BuildProgress]:
    """Bars while the block runs when `stream` is a terminal, else a plain line now and then."""
    if not stream.isatty():
        yield PlainLines(stream)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=stream)) as bars:
        yield Bars(bars)


class PlainLines:
    """A line when a step ends, and every few seconds before."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._written = time.monotonic()

    def step(self, name: str, done: int, total: int) -> None:
        """Writes `name: done/total` when it is time."""
        now = time.monotonic()
        if done == total or now - self._written >= SECONDS_BETWEEN_LINES:
            self.note(f"{name}: {done}/{total}")
            self._written = now

    def note(self, text: str) -> None:
        """A line for the reader."""
        print(text, file=self._stream, flush=True)


class Bars:
    """A bar a step, with the time left."""

    def __init__(self, bars: "Progress") -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def step(self, name: str, done: int, total: int) -> None:
        """Moves the bar called `name`."""
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total)
        self._bars.update(self._tasks[name], completed=done)

    def note(self, text: str) -> None:
        """A line above the bars."""
        self._bars.console.print(text, highlight=False, markup=False)

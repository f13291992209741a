"""Progress of a verb: bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from cxr_platform.progress import Progress

if TYPE_CHECKING:
    import rich.progress

SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def make_progress(stream: TextIO) -> Iterator[Progress]:
    """Yield a `Progress` that writes to `stream`: bars if it is a terminal, else a plain line now and then."""
    if not stream.isatty():
        yield PlainLines(stream)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=stream)) as bars:
        yield Bars(bars)


class PlainLines:
    """Writes a line at the end of a task, and every `SECONDS_BETWEEN_LINES` before."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._written = time.monotonic()

    def step(self, task: str, done: int, total: int) -> None:
        """Write `task: done/total` if it is due."""
        now = time.monotonic()
        if done == total or now - self._written >= SECONDS_BETWEEN_LINES:
            self.message(f"{task}: {done}/{total}")
            self._written = now

    def message(self, text: str) -> None:
        """Write a line."""
        print(text, file=self._stream, flush=True)


class Bars:
    """Shows one bar per task, with the time left."""

    def __init__(self, bars: "rich.progress.Progress") -> None:
        self._bars = bars
        self._tasks: dict[str, rich.progress.TaskID] = {}

    def step(self, task: str, done: int, total: int) -> None:
        """Move the bar of `task`."""
        if task not in self._tasks:
            self._tasks[task] = self._bars.add_task(task, total=total)
        self._bars.update(self._tasks[task], completed=done)

    def message(self, text: str) -> None:
        """Write a line above the bars."""
        self._bars.console.print(text, highlight=False, markup=False)

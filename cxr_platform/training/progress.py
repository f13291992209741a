"""Progress of a study: lines for the reader, and on a terminal a live table of the running trials."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from cxr_platform.domain.study import TrialKey, TrialRecord
from cxr_platform.progress import NoProgress, Progress
from cxr_platform.training.trial import Epoch

if TYPE_CHECKING:
    from rich.table import Table


LEAST_DONE = 0.02
"""Share of the work of a run that must be done before the time left is estimated: until then processes start."""


class Clock:
    """Estimates the time left from the share of work done; `costs` are those of `plan.relative_cost`."""

    def __init__(self, costs: dict[TrialKey, float], now: Callable[[], float] = time.monotonic) -> None:
        self._costs = costs
        self._share: dict[TrialKey, float] = {}
        self._done, self._left = 0.0, sum(costs.values())
        self._now = now
        self._began: float | None = None

    def start(self) -> None:
        """Start to measure the pace."""
        self._began = self._now()

    def advance(self, key: TrialKey, share: float, before: float = 0.0) -> None:
        """Set the share of a trial that is done, 0 to 1. The first call states the share done `before` this run.

        A trial without a cost does not change the time left.
        """
        known, cost = self._share.get(key), self._costs.get(key, 0.0)
        self._done += cost * (share - (before if known is None else known))
        self._left -= cost * (share - (known or 0.0))
        self._share[key] = share

    def seconds_left(self) -> float | None:
        """Return the seconds left at the pace so far, or `None` if too little work is done yet."""
        if self._began is None or self._done <= LEAST_DONE * (self._done + self._left):
            return None
        return (self._now() - self._began) * max(0.0, self._left) / self._done


class StudyProgress:
    """Receives the events of a study from an engine, and reports them to `output` as messages.

    It is a `cxr_platform.progress.Progress` itself, for what is computed before the trials. `on_advance` is called when
    training begins and whenever an epoch or a trial ends.
    """

    def __init__(self, output: Progress | None = None) -> None:
        self._output = output or NoProgress()
        self._clock = Clock({})
        self.total = 0
        self.done = 0
        self.running: dict[TrialKey, Epoch] = {}
        self._noted: set[str] = set()
        self.on_advance: Callable[[], None] = lambda: None

    def begin(self, costs: dict[TrialKey, float], already_done: int) -> None:
        """Begin with the trials to run and their costs; `already_done` trials were finished before."""
        self._clock = Clock(costs)
        self.total, self.done = already_done + len(costs), already_done
        kept = f", {already_done} kept from before" if already_done else ""
        self.message(f"{len(costs)} trials to run{kept}")

    def training_begins(self) -> None:
        """Start the clock: what all trials need is computed."""
        self._clock.start()
        self.on_advance()

    def epoch(self, key: TrialKey, epoch: Epoch) -> None:
        """Report that a trial finished an epoch."""
        self.running[key] = epoch
        self._clock.advance(key, epoch.epoch / epoch.epochs, (epoch.epoch - 1) / epoch.epochs)
        self.on_advance()
        self.update()

    def finished(self, record: TrialRecord) -> None:
        """Report that a trial is stored."""
        self.done += 1
        self.running.pop(record.key, None)
        self._clock.advance(record.key, 1.0)
        self.on_advance()
        accuracy = "" if record.accuracy is None else f"accuracy {record.accuracy:.3f} "
        seconds = f"({record.seconds.total:.0f} s)"
        self.message(f"{self.done}/{self.total} {record.key}: {accuracy}{seconds}{self.time_left()}")

    def failed(self, key: TrialKey, reason: str) -> None:
        """Report that a trial failed and is not tried again."""
        self.running.pop(key, None)
        self.on_advance()
        self.message(f"FAILED {key}: {reason}")

    def step(self, task: str, done: int, total: int) -> None:
        """Report `done` of `total` units of `task`."""
        self._output.step(task, done, total)

    def message(self, text: str) -> None:
        """Report a line for the reader."""
        self._output.message(text)

    def note(self, text: str) -> None:
        """Report a line that several trials have in common, once."""
        if text not in self._noted:
            self._noted.add(text)
            self.message(text)

    def update(self) -> None:
        """Show the running trials, if this display can."""

    def end(self) -> None:
        """End the display. Called whether or not the study succeeded."""

    def time_left(self) -> str:
        """Return `, about 3 min left`, or nothing if that is unknown."""
        seconds = self._clock.seconds_left()
        if seconds is None or self.done >= self.total:
            return ""
        return f", about {seconds / 60:.0f} min left" if seconds > 90 else f", about {seconds:.0f} s left"


class LiveStudyProgress(StudyProgress):
    """A table on the terminal that is redrawn in place: running trials with epoch and accuracy, and the time left."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console
        from rich.live import Live

        self._console = Console()
        self._live = Live(console=self._console, refresh_per_second=4, transient=True)

    def begin(self, costs: dict[TrialKey, float], already_done: int) -> None:
        """Begin with the trials to run, and start to draw."""
        super().begin(costs, already_done)
        self._live.start()

    def step(self, task: str, done: int, total: int) -> None:
        """Write a line above the table."""
        self.message(f"{task}: {done}/{total}")

    def message(self, text: str) -> None:
        """Write a line above the table."""
        self._console.print(text, highlight=False, markup=False)
        self.update()

    def update(self) -> None:
        """Draw the table again."""
        self._live.update(self.table())

    def end(self) -> None:
        """Stop drawing and restore the terminal."""
        self._live.stop()

    def table(self) -> "Table":
        """Return the table of the running trials."""
        from rich.table import Table

        table = Table(title=f"{self.done}/{self.total} trials{self.time_left()}", title_justify="left")
        for heading in ("trial", "epoch", "training loss", "training accuracy"):
            table.add_column(heading)
        for key, epoch in self.running.items():
            table.add_row(str(key), f"{epoch.epoch}/{epoch.epochs}", f"{epoch.loss:.3f}", f"{epoch.accuracy:.3f}")
        return table

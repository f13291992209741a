"""How far a study is: a live table on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, TextIO

from cxr_platform.domain.study import TrialKey, TrialRecord
from cxr_platform.training.trial import Epoch


class Clock:
    """Estimates the time left from the share of work done, in the units of `plan.relative_cost`."""

    def __init__(self, costs: dict[TrialKey, float], now: Callable[[], float] = time.monotonic) -> None:
        self._costs = costs
        self._share: dict[TrialKey, float] = dict.fromkeys(costs, 0.0)
        self._before: dict[TrialKey, float] = {}
        self._now = now
        self._began: float | None = None

    def start(self) -> None:
        """Begin to count."""
        self._began = self._now()

    def advance(self, key: TrialKey, share: float, before: float = 0.0) -> None:
        """Say that `share` (0…1) of a trial is done; the first time, how much of it was done `before` this one."""
        self._before.setdefault(key, before)
        self._share[key] = share

    def seconds_left(self) -> float | None:
        """Seconds to go at the pace so far; `None` before there is a pace."""
        done = sum(cost * (self._share[key] - self._before.get(key, 0.0)) for key, cost in self._costs.items())
        left = sum(cost * (1 - self._share[key]) for key, cost in self._costs.items())
        return (self._now() - self._began) * left / done if done > 0 and self._began is not None else None


class Progress:
    """What the engines tell; this one prints a plain line for each finished trial and each note."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._clock = Clock({})
        self.total = 0
        self.done = 0
        self.running: dict[TrialKey, Epoch] = {}

    def begin(self, costs: dict[TrialKey, float], already_done: int) -> None:
        """The trials to run with their costs, and how many were finished before."""
        self._clock = Clock(costs)
        self.total, self.done = already_done + len(costs), already_done
        kept = f", {already_done} kept from before" if already_done else ""
        self.note(f"{len(costs)} trials to run{kept}")

    def training_begins(self) -> None:
        """What is prepared for all trials is ready: from here on the pace of trials can be told."""
        self._clock.start()

    def epoch(self, key: TrialKey, epoch: Epoch) -> None:
        """A trial ended an epoch."""
        self.running[key] = epoch
        self._clock.advance(key, epoch.epoch / epoch.epochs, (epoch.epoch - 1) / epoch.epochs)
        self.changed()

    def finished(self, record: TrialRecord) -> None:
        """A trial is stored."""
        key = record.key
        self.done += 1
        self.running.pop(key, None)
        self._clock.advance(key, 1.0)
        self.note(
            f"{self.done}/{self.total} {key}: accuracy {record.accuracy:.3f} "
            f"({record.seconds.total:.0f} s){self.time_left()}"
        )

    def failed(self, key: TrialKey, reason: str) -> None:
        """A trial failed for good."""
        self.running.pop(key, None)
        self.note(f"FAILED {key}: {reason}")

    def note(self, text: str) -> None:
        """A line for the reader."""
        print(text, file=self._stream, flush=True)

    def changed(self) -> None:
        """Called when a running trial moved; plain output stays silent."""

    def end(self) -> None:
        """The study stopped, for whatever reason."""

    def time_left(self) -> str:
        """`, about 3 min left`, or nothing where that is not known."""
        seconds = self._clock.seconds_left()
        if seconds is None or self.done >= self.total:
            return ""
        return f", about {seconds / 60:.0f} min left" if seconds > 90 else f", about {seconds:.0f} s left"


class LiveProgress(Progress):
    """A table that is drawn again in place: trials done, the running ones with epoch and accuracy, time left."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console
        from rich.live import Live

        self._console = Console()
        self._live = Live(console=self._console, refresh_per_second=4, transient=True)

    def begin(self, costs: dict[TrialKey, float], already_done: int) -> None:
        """Start drawing."""
        super().begin(costs, already_done)
        self._live.start()

    def note(self, text: str) -> None:
        """A line above the table."""
        self._console.print(text, highlight=False)
        self.changed()

    def changed(self) -> None:
        """Draw again."""
        self._live.update(self._table(self.running.items()))

    def end(self) -> None:
        """Stop drawing and give the terminal back."""
        self._live.stop()

    def _table(self, running: Iterable[tuple[TrialKey, Epoch]]) -> Any:
        from rich.table import Table

        table = Table(title=f"{self.done}/{self.total} trials{self.time_left()}", title_justify="left")
        for heading in ("trial", "epoch", "training loss", "training accuracy"):
            table.add_column(heading)
        for key, epoch in running:
            table.add_row(str(key), f"{epoch.epoch}/{epoch.epochs}", f"{epoch.loss:.3f}", f"{epoch.accuracy:.3f}")
        return table


def make_progress() -> Progress:
    """Live on a terminal, plain lines elsewhere."""
    return LiveProgress() if sys.stdout.isatty() else Progress()

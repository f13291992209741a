"""Progress of long tasks: one interface for all of them. The command line displays it (`pipelines.progress`)."""

from typing import Protocol


class Progress(Protocol):
    """Receives how far a task is. Calls come from one thread at a time."""

    def step(self, task: str, done: int, total: int) -> None:
        """Report `done` of `total` units of `task`; the last call of a task has both equal."""

    def message(self, text: str) -> None:
        """Report a line for the reader."""


class NoProgress:
    """Ignores everything."""

    def step(self, task: str, done: int, total: int) -> None:
        """Ignore it."""

    def message(self, text: str) -> None:
        """Ignore it."""

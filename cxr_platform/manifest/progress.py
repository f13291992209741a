"""How a build tells what it is doing."""

from typing import Protocol


class BuildProgress(Protocol):
    """Shown to a person by whoever calls the build."""

    def step(self, name: str, done: int, total: int) -> None:
        """`done` of `total` units of the step called `name`; the last call of a step has both equal."""

    def note(self, text: str) -> None:
        """A line for the reader."""


class Silent:
    """Shows nothing."""

    def step(self, name: str, done: int, total: int) -> None:
        """Says nothing."""

    def note(self, text: str) -> None:
        """Says nothing."""

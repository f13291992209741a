"""Replaces the module `time` in code that waits."""

from types import ModuleType

import pytest


class Clock:
    """Stands still until `turn` or `sleep`."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def clock_gettime(self, _: int) -> float:
        return self.now

    def turn(self, seconds: float) -> None:
        self.now += seconds

    sleep = turn


def stopped_clock(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> Clock:
    """Return the clock that `module` reads from now on."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock

"""Processes that work on one registry, and may end in the middle of it."""

import multiprocessing
from collections.abc import Callable, Sequence
from typing import Any

SPAWN = multiprocessing.get_context("spawn")


def exit_codes(target: Callable[..., object], arguments: Sequence[tuple[Any, ...]]) -> list[int | None]:
    """Call `target` with each of `arguments` in a process of its own, all at once; return the exit codes."""
    processes = [SPAWN.Process(target=target, args=each) for each in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    return [process.exitcode for process in processes]

"""What others notice of an attack: how fast their requests are answered meanwhile, and the memory of the server."""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from tests.waiting import wait_until

LEAST_REQUESTS, MOST_REQUESTS = 5, 5000
END_SECONDS = 60.0


class Others:
    """Requests that were answered during an attack, in seconds each, and memory in MiB: before, and at its highest."""

    def __init__(self, process: int) -> None:
        self._process = process
        self.seconds: list[float] = []
        self.before = self.highest = resident(process)

    @property
    def grown(self) -> float:
        """Growth of the memory in MiB, read after each answer."""
        return self.highest - self.before

    def __str__(self) -> str:
        answered = f"{len(self.seconds)} requests of others answered in {1000 * median(self.seconds):.1f} ms (median)"
        return f"{answered}, memory of the server {self.grown:+.0f} MiB"

    def note(self, seconds: float) -> None:
        """Add an answered request."""
        self.seconds.append(seconds)
        self.highest = max(self.highest, resident(self._process))

    def wait_for_another_answer(self) -> None:
        """Return once a further request has been answered."""
        answered = len(self.seconds)
        wait_until(lambda: len(self.seconds) > answered, END_SECONDS, 0.001)


@contextmanager
def others(ask: Callable[[], object], process: int, pause: float = 0.01) -> Iterator[Others]:
    """Call `ask` in a thread while the block runs, and `LEAST_REQUESTS` times at least; it raises without an answer.

    Fails after the block with what `ask` raised.
    """
    made, attack_over, raised = Others(process), threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            while len(made.seconds) < LEAST_REQUESTS or not attack_over.is_set():
                assert len(made.seconds) < MOST_REQUESTS, "the attack does not end"
                began = time.perf_counter()
                ask()
                made.note(time.perf_counter() - began)
                attack_over.wait(pause)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="others", daemon=True)
    thread.start()
    try:
        yield made
    finally:
        attack_over.set()
        thread.join(END_SECONDS)
        if raised:
            raise raised[0]
    assert not thread.is_alive(), "a request of others has no answer"
    made.note(made.seconds.pop())


def resident(process: int) -> float:
    """Return the memory of a process in MiB."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1]) / 1024


def with_children(process: int) -> float:
    """Return the memory of a process and of those that it has started, in MiB."""
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True, text=True).stdout
    return resident(process) + sum(resident(int(child)) for child in listed.split())

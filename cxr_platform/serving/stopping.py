"""How a server with a private Ray ends: requests under way are answered, then Ray ends, within `END_SECONDS` in all.

`serve.shutdown` is not used there. It ends one part of Serve after the other, which takes 4 to 10 seconds, and its last
step, the controller that kills itself, makes Ray print "Task ServeController.graceful_shutdown failed". Deleting the
application waits for its requests, and the end of a private Ray ends all other parts.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

DRAIN_SECONDS = 2.0
"""How long requests under way may take after the first signal."""

END_SECONDS = 4.5
"""When the process ends after the first signal, even if Ray has not ended. Ray's reaper ends its processes then."""


def stop_event(
    end_seconds: float | None = END_SECONDS, end_process: Callable[[int], object] = os._exit
) -> threading.Event:
    """Return an event that Ctrl-C and SIGTERM set; call after Ray is started, as Ray installs handlers of its own.

    A second signal ends the process at once, with the exit code that shells use. Without `end_seconds` the end has no
    limit, for a Ray cluster on which the application would otherwise remain.
    """
    stopped = threading.Event()
    received: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            end(128 + number, end_process)
            return
        if end_seconds is not None:
            timer = threading.Timer(end_seconds, end, [0, end_process])
            timer.daemon = True
            timer.start()
        # In a thread: a signal may come while this one is in `stopped.wait` with the lock that `set` needs.
        threading.Thread(target=stopped.set, name="cxr-stop").start()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
    return stopped


def end(code: int, end_process: Callable[[int], object] = os._exit) -> None:
    """End the process at once, its output written: Python takes seconds to free what Ray and its libraries loaded."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, RuntimeError):  # closed, or in use by what was interrupted
            stream.flush()
    end_process(code)


def drain(delete: Callable[[], object], seconds: float = DRAIN_SECONDS) -> bool:
    """Call `delete`, which returns when the application has answered its requests; return False if it takes longer.

    It then goes on in a thread that ends with the process.
    """
    done = threading.Event()

    def run() -> None:
        # The end of Ray, or a replica or controller that has died, interrupts it: there is nothing left to wait for.
        with contextlib.suppress(Exception):
            delete()
        done.set()

    threading.Thread(target=run, name="cxr-drain", daemon=True).start()
    return done.wait(seconds)

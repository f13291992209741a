"""Waiting for what another process or thread does, with an end to it."""

import time
from collections.abc import Callable


def wait_until(true: Callable[[], object], seconds: float = 30, pause: float = 0.05) -> None:
    """Until `true()` is; AssertionError where it is not after `seconds`."""
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, f"it did not come to that in {seconds:g} s"
        time.sleep(pause)

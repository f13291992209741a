"""Wait for another process or thread, for a limited time."""

import time
from collections.abc import Callable


def wait_until(
    condition: Callable[[], object],
    seconds: float = 120,
    pause: float = 0.05,
    describe: Callable[[], object] = lambda: "the condition is still false",
) -> None:
    """Return as soon as `condition()` is true; after `seconds` fail with the text of `describe()`."""
    ends = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= ends:
            raise AssertionError(f"after {seconds:g} s: {describe()}")
        time.sleep(pause)

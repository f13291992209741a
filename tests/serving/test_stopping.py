"""Signals that end a server, and its wait for requests under way, without Ray."""

import signal
import threading
from collections.abc import Iterator

import pytest

from cxr_platform.serving.stopping import drain, stop_event

TIMEOUT_SECONDS = 30.0


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_stops_and_the_second_ends_the_process(number: signal.Signals) -> None:
    codes: list[int] = []
    stopped = stop_event(None, codes.append)
    assert not stopped.is_set()
    signal.raise_signal(number)
    assert stopped.wait(TIMEOUT_SECONDS)
    assert codes == []
    signal.raise_signal(number)
    assert codes == [128 + number]


def test_a_process_that_does_not_end_in_time_is_ended() -> None:
    ended, codes = threading.Event(), list[int]()

    def end(code: int) -> None:
        codes.append(code)
        ended.set()

    stop_event(0.01, end)
    assert not ended.wait(0.1), "before a signal the time does not run"
    signal.raise_signal(signal.SIGTERM)
    assert ended.wait(TIMEOUT_SECONDS)
    assert codes == [0]


def test_the_application_is_waited_for_but_not_for_ever() -> None:
    deleted, release = list[bool](), threading.Event()

    def delete() -> None:
        deleted.append(release.wait(TIMEOUT_SECONDS))

    assert not drain(delete, 0.01)
    assert deleted == []
    release.set()
    assert drain(delete, TIMEOUT_SECONDS)
    assert True in deleted


def test_an_application_that_is_gone_is_not_an_error() -> None:
    def delete() -> None:
        raise RuntimeError("the controller has died")

    assert drain(delete, TIMEOUT_SECONDS)

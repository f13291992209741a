"""A challenger that screens what the champion has answered, without being seen by a client.

It works in one thread of low priority, on images that the champion has decoded already, so that an answer waits for
nothing. What it decides is counted beside the champion's decision, and its drift is published; nothing of an image is
kept. An image for which there is no room, or whose preparation differs between the two versions, is counted as skipped.
"""

import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from cxr_platform.registry.bundle import Bundle
from cxr_platform.serving.screener import Screener, Screening, network_image

WAITING_IMAGES = 64
NICENESS = 10
"""Added to the niceness of the thread: the champion's threads come first."""

END_SECONDS = 5.0
"""How long `close` waits for the thread, which may be loading the challenger."""

RETRY_SECONDS = 30.0
"""Time between two attempts to load a challenger that could not be loaded."""

FULL, OTHER_INTAKE, FAILED, NOT_LOADED = "queue-full", "other-intake", "failed", "not-loaded"
"""Reasons for which an image is skipped."""

log = logging.getLogger(__name__)


class ShadowMetrics(Protocol):
    """Where decisions of the challenger are counted."""

    def count_shadow(self, champion: str, decision: str, challenger: Screener, screening: Screening) -> None:
        """Count the decision of version `champion` for an image, and the challenger's result for it."""

    def count_shadow_skip(self, reason: str) -> None:
        """Count an image that the challenger did not screen."""


class Shadow:
    """Screens in a thread with what `load` returns, until `close`. If it raises, it is called again later."""

    def __init__(self, load: Callable[[], Screener], metrics: ShadowMetrics, waiting: int = WAITING_IMAGES) -> None:
        self._load, self._metrics = load, metrics
        self._challenger: Screener | None = None
        self._tried = -RETRY_SECONDS
        self._queue: queue.Queue[tuple[Screening, Bundle] | None] = queue.Queue(waiting)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cxr-shadow", daemon=True)
        self._thread.start()

    def add(self, screening: Screening, bundle: Bundle) -> None:
        """Have an image screened that `bundle` has answered; returns at once."""
        try:
            self._queue.put_nowait((screening, bundle))
        except queue.Full:
            self._metrics.count_shadow_skip(FULL)

    def close(self) -> None:
        """End the thread after the image that it has in hand; images that wait are dropped."""
        self._closed.set()
        with contextlib.suppress(queue.Full):  # a full queue wakes the thread too
            self._queue.put_nowait(None)
        self._thread.join(END_SECONDS)

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # on Linux the niceness is that of this thread
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.nice(0) + NICENESS)
        self._load_challenger()
        while (item := self._queue.get()) is not None and not self._closed.is_set():
            if self._challenger is None:
                self._load_challenger()
            if self._challenger is None:
                self._metrics.count_shadow_skip(NOT_LOADED)
                continue
            try:
                self._screen(self._challenger, *item)
            except Exception:
                log.exception("The challenger failed with an image")
                self._metrics.count_shadow_skip(FAILED)

    def _load_challenger(self) -> None:
        if time.monotonic() - self._tried < RETRY_SECONDS:
            return
        self._tried = time.monotonic()
        try:
            self._challenger = self._load()
        except Exception as error:  # of the registry, or of a network share that is gone
            log.error("The challenger cannot be loaded, and nothing is compared: %s", error)

    def _screen(self, challenger: Screener, screening: Screening, bundle: Bundle) -> None:
        if challenger.bundle.version == bundle.version:  # it has been promoted
            return
        preprocessing = challenger.bundle.preprocessing
        if preprocessing.intake != bundle.preprocessing.intake:
            self._metrics.count_shadow_skip(OTHER_INTAKE)
            return
        prepared = screening.prepared
        if preprocessing != bundle.preprocessing:
            image = network_image(prepared.letterboxed, prepared.width, prepared.height, preprocessing)
            prepared = replace(prepared, image=image)
        (result,) = challenger.screen([prepared])
        self._metrics.count_shadow(bundle.version, screening.decision, challenger, result)

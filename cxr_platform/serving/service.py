"""The work of a replica, apart from HTTP and from Ray: images in, answers out, the champion followed.

Decoding and inference of an image are one piece of work in a thread; both leave Python's lock for most of their time.
One image a call of the network: on processors a batch of MobileNetV2 costs as much an image as one alone (measured:
infra/serve/README.md), and an image need not wait for others. What a request asks of TensorFlow (heatmaps, DICOM)
goes to a colleague who has it, and whose death by a native decoder costs no other request.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from cxr_platform.errors import ImageRefused
from cxr_platform.intake.images import sniff
from cxr_platform.registry.bundle import Preprocessing
from cxr_platform.serving.answers import explanation, screen_answer
from cxr_platform.serving.champion_watcher import POLL_SECONDS, Follower
from cxr_platform.serving.heatmap import image_picture
from cxr_platform.serving.log_silencing import quiet_libraries
from cxr_platform.serving.metrics import Metrics, NoMetrics
from cxr_platform.serving.problems import Problem, log_defect, problem_of_image
from cxr_platform.serving.schema import Explanation, ScreenAnswer
from cxr_platform.serving.screener import Prepared, Screener, Screening
from cxr_platform.serving.upload import Limits, check_content

T = TypeVar("T")
log = logging.getLogger(__name__)
HELD_SECONDS, HELD_STEP = 1.0, 0.05
"""How long a request waits for a first model. A replica that refused at once would always be the one with least to do,
and Serve's router would prefer it to those that have a model (one whose share is not mounted, say)."""

NO_HEATMAP = "Heatmaps are not to be had at the moment; the answer stands without."


class Colleague(Protocol):
    """Who has TensorFlow. Both raise `ImageRefused` or `Problem`, or anything where it cannot be reached."""

    async def prepare(self, data: bytes, preprocessing: Preprocessing) -> Prepared:
        """As `screener.prepare`, for a DICOM object."""

    async def heatmap(self, version: str, image: NDArray[np.uint8], target: int) -> bytes:
        """A PNG (`heatmap.overlay`) of what in the image (S, S) speaks for the class `target` of `version`."""


@dataclass
class Clock:
    """How long the stages of a request took, in seconds, since `began`."""

    began: float = field(default_factory=time.perf_counter)
    stages: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure what is within."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.stages[name] = time.perf_counter() - began

    def seconds(self) -> dict[str, float]:
        """The stages, and all of it as `total`."""
        return {**self.stages, "total": time.perf_counter() - self.began}


class Service:
    """Screens images with the champion. `workers` threads; at most `most_waiting` requests at a time."""

    def __init__(
        self,
        champion: Follower[Screener],
        workers: int = 1,
        colleague: Colleague | None = None,
        metrics: Metrics | None = None,
        limits: Limits | None = None,
        most_waiting: int = 64,
    ) -> None:
        quiet_libraries()
        self.champion = champion
        self.limits = limits or Limits()
        self.metrics: Metrics = metrics or NoMetrics()
        self._colleague = colleague
        self._pool = ThreadPoolExecutor(workers, "cxr-screen")
        self._most_waiting, self._waiting = most_waiting, 0
        self._following: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Follow the champion while the block runs."""
        self._tell()
        self._following = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            self._following.cancel()
            self._pool.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """A place among the requests that are worked on or wait; `Problem` (busy) where there is none."""
        if self._waiting >= self._most_waiting:
            raise Problem("busy")
        self._waiting += 1
        self.metrics.waiting(self._waiting)
        try:
            yield
        finally:
            self._waiting -= 1
            self.metrics.waiting(self._waiting)

    async def has_model(self) -> None:
        """Return when there is a model to answer with; `Problem`, saying why, where there is none within a second."""
        until = time.monotonic() + HELD_SECONDS
        while (reason := self.champion.missing) is not None:
            if time.monotonic() >= until:
                raise Problem(reason)
            await asyncio.sleep(HELD_STEP)

    async def answer(self, data: bytes, request_id: str, clock: Clock, explain: bool = False) -> ScreenAnswer:
        """The answer for the bytes of a file; `Problem` for what is no image."""
        try:
            screener, screening = await self._screen(data, clock)
        except Problem as problem:
            self.metrics.refused(problem.reason)
            raise
        self.metrics.screened(screening, screener.bundle.version)
        explained = None
        if explain and not screening.findings:
            with clock.stage("explanation"):
                explained = await self._explain(screener, screening)
        seconds = clock.seconds()
        self._tell_stages(screening, seconds)
        return screen_answer(screening, screener.bundle, request_id, seconds, explained)

    async def answers(self, files: Sequence[bytes], request_id: str, clock: Clock) -> list[ScreenAnswer | Problem]:
        """The answer or the problem for each file; a defect that one of them meets is its own and not the others'."""

        async def one(data: bytes) -> ScreenAnswer | Problem:
            own = Clock(time.perf_counter(), dict(clock.stages))
            try:
                return await self.answer(data, request_id, own)
            except Problem as problem:
                return problem
            except Exception as error:
                log_defect(request_id, error)
                return Problem("defect")

        return list(await asyncio.gather(*map(one, files)))

    async def _screen(self, data: bytes, clock: Clock) -> tuple[Screener, Screening]:
        check_content(data)
        _, screener = self.champion.current
        try:
            if self._colleague is not None and sniff(data) == "DICOM":
                prepared = await self._colleague.prepare(data, screener.bundle.preprocessing)
                screening = await self._in_thread(clock, lambda: screener.screen([prepared])[0])
            else:
                screening = await self._in_thread(clock, lambda: screener.screen([screener.prepare(data)])[0])
        except ImageRefused as refused:
            raise problem_of_image(refused) from None
        return screener, screening

    async def _in_thread(self, clock: Clock, work: Callable[[], T]) -> T:
        submitted = time.perf_counter()

        def timed() -> T:
            clock.stages["waiting"] = time.perf_counter() - submitted
            return work()

        return await asyncio.get_running_loop().run_in_executor(self._pool, timed)

    async def _explain(self, screener: Screener, screening: Screening) -> Explanation:
        picture = image_picture(screening.prepared.letterboxed)
        heat, missing = None, NO_HEATMAP
        if self._colleague is not None:
            target = screener.bundle.labels.index(screening.label)
            try:
                heat = await self._colleague.heatmap(screener.bundle.version, screening.prepared.image, target)
                missing = ""
            except Exception:  # whatever has become of the colleague, the image itself is answered
                heat = None
        return explanation(screening.label, picture, heat, missing or None)

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                await loop.run_in_executor(None, self.champion.look)
                self._tell()
            except Exception:  # who stops following would serve an old version for ever, and look well
                log.exception("The champion could not be followed; trying again")
            await asyncio.sleep(POLL_SECONDS)

    def _tell(self) -> None:
        refused = self.champion.status.refused
        if self.champion.missing is not None:
            self.metrics.waits_for_model(refused)
            return
        version, screener = self.champion.current
        self.metrics.serving(version, screener.reference, refused)

    def _tell_stages(self, screening: Screening, seconds: dict[str, Any]) -> None:
        measured = {**seconds, "decode": screening.prepared.seconds, "inference": screening.seconds}
        for stage, value in measured.items():
            self.metrics.stage(stage, value)

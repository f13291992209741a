"""The work of a replica without HTTP and Ray: screen images with the current champion.

Decoding and inference of an image run in one thread; both release Python's lock for most of their time. Each image is
one call of the network: on processors a batch of MobileNetV2 costs as much per image as one image alone (measured in
infra/serve/README.md), and an image need not wait for others. DICOM is decoded by a `DicomDecoder` in another process,
so that a hostile file costs no other request; heatmaps, which need Keras, come from an `Explainer`.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from cxr_platform.errors import ImageRefused
from cxr_platform.intake.dicom_source import DicomSource
from cxr_platform.intake.images import sniff
from cxr_platform.serving.answers import explanation, screen_answer
from cxr_platform.serving.champion_watcher import POLL_SECONDS, ChampionWatcher
from cxr_platform.serving.dicom_decoder import DicomDecoder
from cxr_platform.serving.explainer_client import Explainer
from cxr_platform.serving.heatmap import grey_png
from cxr_platform.serving.metrics import ServingMetrics
from cxr_platform.serving.problems import Problem, log_internal_error, problem_for_image
from cxr_platform.serving.schema import Explanation, ScreenAnswer
from cxr_platform.serving.screener import Screener, Screening
from cxr_platform.serving.shadow import Shadow
from cxr_platform.serving.upload import Limits, check_content

T = TypeVar("T")
log = logging.getLogger(__name__)

MODEL_WAIT_SECONDS, MODEL_WAIT_STEP = 1.0, 0.05
"""How long a request waits for the first model. A replica that refused at once would always have the least work, and
Serve's router would prefer it to replicas that have a model."""

NO_HEATMAP_OF_VIEWS = (
    "This model has no heatmaps, as its head adds up the scores of several views. The result is complete without one."
)
NO_HEATMAP = "Heatmaps are not available at the moment. The result is complete without one."

QUOTING_LIBRARIES = ("python_multipart", "pydicom", "PIL")
"""Libraries whose log messages quote what they read: bytes of bodies, values of DICOM elements."""


def silence_libraries() -> None:
    """Drop all log messages of `QUOTING_LIBRARIES` in this process; reason codes say what is wrong with a file."""
    for name in QUOTING_LIBRARIES:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


@dataclass
class StageTimer:
    """Durations of the stages of a request, in seconds."""

    began: float = field(default_factory=time.perf_counter)
    stages: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.stages[name] = time.perf_counter() - began

    def seconds(self) -> dict[str, float]:
        """Return the durations of all stages, and `total` since the beginning."""
        return {**self.stages, "total": time.perf_counter() - self.began}


class Service:
    """Screens images with the champion in `workers` threads; accepts at most `max_waiting` requests at a time.

    `decoder` decodes DICOM; without one it is decoded like all other images, for tests and trusted files. `shadow`
    screens each image that was answered once more, for comparison.
    """

    def __init__(
        self,
        champion: ChampionWatcher[Screener],
        workers: int = 1,
        explainer: Explainer | None = None,
        decoder: DicomDecoder | None = None,
        shadow: Shadow | None = None,
        metrics: ServingMetrics | None = None,
        limits: Limits | None = None,
        max_waiting: int = 64,
    ) -> None:
        silence_libraries()
        self.champion = champion
        self.limits = limits or Limits()
        self.metrics = metrics or ServingMetrics()
        self._explainer, self._decoder, self._shadow = explainer, decoder, shadow
        self._pool = ThreadPoolExecutor(workers, "cxr-screen")
        self._max_waiting, self._waiting = max_waiting, 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Poll the registry for a new champion while the block runs."""
        self._report_version()
        polling = asyncio.create_task(self._poll_champion())
        try:
            yield
        finally:
            polling.cancel()
            if self._decoder is not None:
                self._decoder.close()
            if self._shadow is not None:
                self._shadow.close()
            self._pool.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Count a request as accepted while the block runs; raise `Problem` (busy) if there are too many."""
        if self._waiting >= self._max_waiting:
            raise Problem("busy")
        self._waiting += 1
        self.metrics.set_waiting(self._waiting)
        try:
            yield
        finally:
            self._waiting -= 1
            self.metrics.set_waiting(self._waiting)

    async def wait_for_model(self) -> None:
        """Return once a model is loaded; raise `Problem` with the reason if there is none within a second."""
        deadline = time.monotonic() + MODEL_WAIT_SECONDS
        while (reason := self.champion.missing_reason) is not None:
            if time.monotonic() >= deadline:
                raise Problem(reason)
            await asyncio.sleep(MODEL_WAIT_STEP)

    async def screen(self, data: bytes, request_id: str, timer: StageTimer, explain: bool = False) -> ScreenAnswer:
        """Return the answer for the bytes of a file; raise `Problem` if it is not a usable image."""
        answer, _ = await self._answer(data, request_id, timer, explain, with_source=False)
        return answer

    async def screen_as_dicom(
        self, data: bytes, request_id: str, timer: StageTimer, explain: bool = False
    ) -> tuple[ScreenAnswer, list[bytes]]:
        """Return the answer, and as DICOM files the report and, with `explain` and for a screenable image, the heatmap.

        Raises `Problem` as `screen`, and not-dicom or incomplete-dicom for an image without patient and study.
        """
        from cxr_platform.serving.dicom_answer import dicom_documents  # highdicom, for few requests
        from cxr_platform.serving.dicom_document import encode_document

        answer, source = await self._answer(data, request_id, timer, explain, with_source=True)
        assert source is not None

        def encoded(source: DicomSource) -> list[bytes]:
            return [encode_document(document) for document in dicom_documents(answer, source)]

        return answer, await self._in_thread(timer, partial(encoded, source))

    async def _answer(
        self, data: bytes, request_id: str, timer: StageTimer, explain: bool, with_source: bool
    ) -> tuple[ScreenAnswer, DicomSource | None]:
        try:
            screener, screening = await self._screening(data, timer, with_source)
        except Problem as problem:
            self.metrics.count_refusal(problem.reason)
            raise
        self.metrics.count_screening(screening, screener.bundle.version)
        if self._shadow is not None:
            self._shadow.add(screening, screener.bundle)
        explained = None
        if explain and not screening.findings:
            with timer.stage("explanation"):
                explained = await self._explanation(screener, screening)
        seconds = timer.seconds()
        measured = {**seconds, "decode": screening.prepared.seconds, "inference": screening.seconds}
        for stage, duration in measured.items():
            self.metrics.observe_stage(stage, duration)
        return screen_answer(screening, screener.bundle, request_id, seconds, explained), screening.prepared.source

    async def screen_batch(
        self, files: Sequence[bytes], request_id: str, timer: StageTimer
    ) -> list[ScreenAnswer | Problem]:
        """Return the answer or the problem of each file; an internal error with one file affects no other file."""

        turn = asyncio.Lock()

        async def screen_one(data: bytes) -> ScreenAnswer | Problem:
            if sniff(data) == "DICOM":  # one of a request at a time: the decoder has few places for waiting images
                async with turn:
                    return await answer(data)
            return await answer(data)

        async def answer(data: bytes) -> ScreenAnswer | Problem:
            own_timer = StageTimer(time.perf_counter(), dict(timer.stages))
            try:
                return await self.screen(data, request_id, own_timer)
            except Problem as problem:
                return problem
            except Exception as error:
                log_internal_error(request_id, error)
                return Problem("internal-error")

        return list(await asyncio.gather(*map(screen_one, files)))

    async def _screening(self, data: bytes, timer: StageTimer, with_source: bool) -> tuple[Screener, Screening]:
        check_content(data)
        if with_source and sniff(data) != "DICOM":
            raise Problem("not-dicom")
        _, screener = self.champion.current
        try:
            if self._decoder is not None and sniff(data) == "DICOM":
                asked = time.perf_counter()
                prepared = await self._decoder.prepare(data, screener.bundle.preprocessing, with_source)
                timer.stages["waiting"] = max(0.0, time.perf_counter() - asked - prepared.seconds)
                (screening,) = await self._in_thread(timer, lambda: screener.screen([prepared]))
            else:
                (screening,) = await self._in_thread(
                    timer, lambda: screener.screen([screener.prepare(data, with_source)])
                )
        except ImageRefused as refused:
            raise problem_for_image(refused) from None
        return screener, screening

    async def _in_thread(self, timer: StageTimer, work: Callable[[], T]) -> T:
        submitted = time.perf_counter()

        def timed() -> T:
            timer.stages["waiting"] = timer.stages.get("waiting", 0.0) + time.perf_counter() - submitted
            return work()

        return await asyncio.get_running_loop().run_in_executor(self._pool, timed)

    async def _explanation(self, screener: Screener, screening: Screening) -> Explanation:
        picture, heatmap = grey_png(screening.prepared.letterboxed), None
        if screener.bundle.preprocessing.views is not None:
            return explanation(screening.label, picture, None, NO_HEATMAP_OF_VIEWS)
        if self._explainer is not None:
            target = screener.bundle.labels.index(screening.label)
            try:
                heatmap = await self._explainer.heatmap(screener.bundle.version, screening.prepared.image, target)
            except Exception:  # whatever happened to the Explainer, the image is answered
                heatmap = None
        return explanation(screening.label, picture, heatmap, NO_HEATMAP if heatmap is None else None)

    async def _poll_champion(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                await loop.run_in_executor(None, self.champion.poll)
                self._report_version()
            except Exception:  # polling must go on: a replica that stopped would serve an old version for ever
                log.exception("Polling the registry failed and will be repeated")
            await asyncio.sleep(POLL_SECONDS)

    def _report_version(self) -> None:
        refused = self.champion.status.refused
        if self.champion.missing_reason is not None:
            self.metrics.set_no_version(refused)
        else:
            version, screener = self.champion.current
            self.metrics.set_version(version, screener.reference, refused)

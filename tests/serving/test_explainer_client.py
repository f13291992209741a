"""The client with handles that behave like Serve's: awaited, they return or raise what Serve raises."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cxr_platform.cluster import connection
from cxr_platform.config import DecodingConfig, QualityConfig
from cxr_platform.errors import ImageRefused
from cxr_platform.registry.bundle import Preprocessing
from cxr_platform.serving import explainer_client
from cxr_platform.serving.explainer_client import (
    HEATMAP_ATTEMPTS,
    ExplainerClient,
    prepared_or_reason,
    run_in_own_process,
)
from cxr_platform.serving.problems import Problem
from tests.intake.files import dicom
from tests.serving.builders import image, image_png

PREPROCESSING = Preprocessing(decoding=DecodingConfig(), quality=QualityConfig(), frontal_only=True, input_size=32)


class Handle:
    """Every method returns the next of `outcomes`; an exception is raised."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes, self.calls = list(outcomes), 0
        self.prepare = self.heatmap = SimpleNamespace(remote=self._remote)

    def _remote(self, *_: Any) -> Awaitable[Any]:
        self.calls += 1
        outcome = self.outcomes.pop(0)

        async def answer() -> Any:
            if isinstance(outcome, Exception):
                raise outcome
            return await outcome() if callable(outcome) else outcome

        return answer()


class FakeProcess:
    """Replaces `run_in_own_process`: returns `outcome` or raises it."""

    def __init__(self, outcome: Any) -> None:
        self.outcome, self.calls, self.at_once, self.max_at_once = outcome, 0, 0, 0

    async def __call__(self, work: Any, *arguments: Any) -> Any:
        assert (work, arguments[1]) == (prepared_or_reason, PREPROCESSING)
        self.calls += 1
        self.at_once += 1
        self.max_at_once = max(self.max_at_once, self.at_once)
        await asyncio.sleep(0.01)
        self.at_once -= 1
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def prepared(handle: Any, isolated: FakeProcess | None = None) -> Any:
    return asyncio.run(
        ExplainerClient(handle, isolated or FakeProcess(AssertionError())).prepare(b"data", PREPROCESSING)
    )


def pictured(handle: Any) -> bytes:
    dark = np.zeros((8, 8), np.uint8)
    return asyncio.run(ExplainerClient(handle, FakeProcess(AssertionError())).heatmap("v1", dark, 0))


def serve_error(name: str) -> Exception:
    from ray.exceptions import ActorDiedError
    from ray.serve.exceptions import BackPressureError

    return ActorDiedError() if name == "died" else BackPressureError(num_queued_requests=1, max_queued_requests=1)


def test_results_of_the_explainer_are_returned() -> None:
    answer = object()
    assert prepared(Handle(answer)) is answer
    assert pictured(Handle(b"png")) == b"png"


def test_a_reason_code_is_raised_as_a_refusal() -> None:
    with pytest.raises(ImageRefused) as refused:
        prepared(Handle("no-pixel-data"))
    assert refused.value.reason == "no-pixel-data"


def test_after_a_crash_of_the_explainer_an_image_is_decoded_in_its_own_process() -> None:
    answer, handle = object(), Handle(serve_error("died"))
    assert prepared(handle, FakeProcess(answer)) is answer
    assert handle.calls == 1
    with pytest.raises(ImageRefused, match="modality"):
        prepared(Handle(serve_error("died")), FakeProcess("modality"))


def test_an_image_that_crashes_its_own_process_too_is_undecodable() -> None:
    with pytest.raises(ImageRefused, match="undecodable"):
        prepared(Handle(serve_error("died")), FakeProcess(ImageRefused("undecodable", "")))


def test_without_an_own_process_the_answer_is_503() -> None:
    with pytest.raises(Problem) as problem:
        prepared(Handle(serve_error("died")), FakeProcess(Problem("unavailable")))
    assert problem.value.status == 503


def test_images_of_a_crashed_explainer_are_decoded_one_at_a_time() -> None:
    handle, isolated = Handle(*[serve_error("died")] * 5), FakeProcess("modality")

    async def five() -> list[Any]:
        client = ExplainerClient(handle, isolated)  # type: ignore[arg-type]
        return await asyncio.gather(*[client.prepare(b"x", PREPROCESSING) for _ in range(5)], return_exceptions=True)

    assert [answer.reason for answer in asyncio.run(five())] == ["modality"] * 5
    assert (isolated.calls, isolated.max_at_once) == (5, 1)


def test_a_heatmap_is_requested_twice_at_most() -> None:
    assert pictured(Handle(serve_error("died"), b"png")) == b"png"
    with pytest.raises(Problem) as problem:
        pictured(Handle(*[serve_error("died")] * HEATMAP_ATTEMPTS))
    assert problem.value.reason == "unavailable"


@pytest.mark.ray
def test_an_own_process_returns_raises_or_crashes() -> None:
    with connection():
        assert asyncio.run(run_in_own_process(prepared_or_reason, dicom(image(0)), PREPROCESSING)).container == "DICOM"
        assert asyncio.run(run_in_own_process(prepared_or_reason, image_png()[:900], PREPROCESSING)) == "undecodable"
        with pytest.raises(ImageRefused, match="undecodable"):
            asyncio.run(run_in_own_process(lambda: os.abort()))
        with pytest.raises(ZeroDivisionError):
            asyncio.run(run_in_own_process(lambda: 1 / 0))


@pytest.mark.ray
def test_a_process_that_takes_too_long_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explainer_client, "TIMEOUT_SECONDS", 3)
    with connection(), pytest.raises(Problem) as problem:
        asyncio.run(run_in_own_process(lambda: time.sleep(1000)))
    assert problem.value.reason == "unavailable"


def test_a_full_queue_of_the_explainer_is_reported_as_busy() -> None:
    with pytest.raises(Problem) as problem:
        prepared(Handle(serve_error("busy")))
    assert problem.value.reason == "busy"


def test_a_call_without_a_result_ends_after_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explainer_client, "TIMEOUT_SECONDS", 0.05)
    forever: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(10)  # noqa: E731
    with pytest.raises(Problem) as problem:
        prepared(Handle(forever))
    assert problem.value.reason == "unavailable"

"""Against handles that behave as Serve's: awaited, they answer, or raise what Serve raises."""

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
from cxr_platform.serving.explainer_client import ATTEMPTS, RemoteColleague, alone, decoded
from cxr_platform.serving.problems import Problem
from tests.intake.files import dicom
from tests.serving.builders import image, image_png

PREPROCESSING = Preprocessing(decoding=DecodingConfig(), quality=QualityConfig(), input_size=32)


class Handle:
    """Every method answers with the next of `outcomes`; an exception is raised."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes, self.asked = list(outcomes), 0
        self.prepare = self.heatmap = SimpleNamespace(remote=self._remote)

    def _remote(self, *_: Any) -> Awaitable[Any]:
        self.asked += 1
        outcome = self.outcomes.pop(0)

        async def answer() -> Any:
            if isinstance(outcome, Exception):
                raise outcome
            return await outcome() if callable(outcome) else outcome

        return answer()


class Alone:
    """In place of a process of its own: answers with `outcome` or raises it."""

    def __init__(self, outcome: Any) -> None:
        self.outcome, self.asked, self.at_once, self.most_at_once = outcome, 0, 0, 0

    async def __call__(self, work: Any, *arguments: Any) -> Any:
        assert (work, arguments[1]) == (decoded, PREPROCESSING)
        self.asked += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0.01)
        self.at_once -= 1
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def prepared(handle: Any, alone: Alone | None = None) -> Any:
    return asyncio.run(RemoteColleague(handle, alone or Alone(AssertionError())).prepare(b"data", PREPROCESSING))


def pictured(handle: Any) -> bytes:
    dark = np.zeros((8, 8), np.uint8)
    return asyncio.run(RemoteColleague(handle, Alone(AssertionError())).heatmap("v1", dark, 0))


def serve_error(name: str) -> Exception:
    from ray.exceptions import ActorDiedError
    from ray.serve.exceptions import BackPressureError

    return ActorDiedError() if name == "died" else BackPressureError(num_queued_requests=1, max_queued_requests=1)


def test_what_the_colleague_answers_comes_back() -> None:
    answer = object()
    assert prepared(Handle(answer)) is answer
    assert pictured(Handle(b"png")) == b"png"


def test_a_reason_is_a_refusal() -> None:
    with pytest.raises(ImageRefused) as refused:
        prepared(Handle("no-pixel-data"))
    assert refused.value.reason == "no-pixel-data"


def test_an_image_over_which_the_shared_colleague_dies_is_decoded_in_a_process_of_its_own() -> None:
    answer, handle = object(), Handle(serve_error("died"))
    assert prepared(handle, Alone(answer)) is answer
    assert handle.asked == 1
    with pytest.raises(ImageRefused, match="modality"):
        prepared(Handle(serve_error("died")), Alone("modality"))


def test_only_an_image_that_kills_that_process_too_cannot_be_decoded() -> None:
    with pytest.raises(ImageRefused, match="undecodable"):
        prepared(Handle(serve_error("died")), Alone(ImageRefused("undecodable", "")))


def test_where_there_is_no_such_process_the_image_is_not_blamed() -> None:
    with pytest.raises(Problem) as problem:
        prepared(Handle(serve_error("died")), Alone(Problem("unavailable")))
    assert problem.value.status == 503


def test_all_that_died_with_the_colleague_are_answered_one_after_the_other() -> None:
    handle, alone = Handle(*[serve_error("died")] * 5), Alone("modality")

    async def five() -> list[Any]:
        asked = RemoteColleague(handle, alone)  # type: ignore[arg-type]
        return await asyncio.gather(*[asked.prepare(b"x", PREPROCESSING) for _ in range(5)], return_exceptions=True)

    assert [answer.reason for answer in asyncio.run(five())] == ["modality"] * 5
    assert (alone.asked, alone.most_at_once) == (5, 1)


def test_a_heatmap_is_asked_for_once_more_and_then_given_up() -> None:
    assert pictured(Handle(serve_error("died"), b"png")) == b"png"
    with pytest.raises(Problem) as problem:
        pictured(Handle(*[serve_error("died")] * ATTEMPTS))
    assert problem.value.reason == "unavailable"


@pytest.mark.ray
def test_a_process_of_its_own_answers_or_dies_of_its_image_alone() -> None:
    with connection():
        assert asyncio.run(alone(decoded, dicom(image(0)), PREPROCESSING)).container == "DICOM"
        assert asyncio.run(alone(decoded, image_png()[:900], PREPROCESSING)) == "undecodable"
        with pytest.raises(ImageRefused, match="undecodable"):
            asyncio.run(alone(lambda: os.abort()))
        with pytest.raises(ZeroDivisionError):
            asyncio.run(alone(lambda: 1 / 0))


@pytest.mark.ray
def test_a_process_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explainer_client, "PATIENCE_SECONDS", 3)
    with connection(), pytest.raises(Problem) as problem:
        asyncio.run(alone(lambda: time.sleep(1000)))
    assert problem.value.reason == "unavailable"


def test_a_colleague_with_too_much_to_do_is_busy() -> None:
    with pytest.raises(Problem) as problem:
        prepared(Handle(serve_error("busy")))
    assert problem.value.reason == "busy"


def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explainer_client, "PATIENCE_SECONDS", 0.05)
    forever: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(10)  # noqa: E731
    with pytest.raises(Problem) as problem:
        prepared(Handle(forever))
    assert problem.value.reason == "unavailable"

"""Against handles that behave as Serve's: awaited, they answer, or raise what Serve raises."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cxr_platform.config import DecodingConfig, QualityConfig
from cxr_platform.errors import ImageRefused
from cxr_platform.registry.bundle import Preprocessing
from cxr_platform.serving import colleague
from cxr_platform.serving.colleague import ATTEMPTS, RemoteColleague
from cxr_platform.serving.problems import Problem

PREPROCESSING = Preprocessing(DecodingConfig(), QualityConfig(), 32)


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


def prepared(handle: Any) -> Any:
    return asyncio.run(RemoteColleague(handle).prepare(b"data", PREPROCESSING))


def serve_error(name: str) -> Exception:
    from ray.exceptions import ActorDiedError
    from ray.serve.exceptions import BackPressureError

    return ActorDiedError() if name == "died" else BackPressureError(num_queued_requests=1, max_queued_requests=1)


def test_what_the_colleague_answers_comes_back() -> None:
    film = object()
    assert prepared(Handle(film)) is film
    picture = asyncio.run(RemoteColleague(Handle(b"png")).heatmap("v1", np.zeros((8, 8), np.uint8), 0))  # type: ignore[arg-type]
    assert picture == b"png"


def test_a_reason_is_a_refusal() -> None:
    with pytest.raises(ImageRefused) as refused:
        prepared(Handle("no-pixel-data"))
    assert refused.value.reason == "no-pixel-data"


def test_a_colleague_that_dies_is_asked_once_more() -> None:
    film = object()
    handle = Handle(serve_error("died"), film)
    assert prepared(handle) is film


def test_a_file_that_kills_its_decoder_every_time_cannot_be_decoded() -> None:
    handle = Handle(*[serve_error("died")] * ATTEMPTS)
    with pytest.raises(ImageRefused) as refused:
        prepared(handle)
    assert (refused.value.reason, handle.asked) == ("undecodable", ATTEMPTS)


def test_a_colleague_with_too_much_to_do_is_busy() -> None:
    with pytest.raises(Problem) as problem:
        prepared(Handle(serve_error("busy")))
    assert problem.value.reason == "busy"


def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colleague, "PATIENCE_SECONDS", 0.05)
    forever: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(10)  # noqa: E731
    with pytest.raises(Problem) as problem:
        prepared(Handle(forever))
    assert problem.value.reason == "unavailable"

"""The client with handles that behave like Serve's: awaited, they return or raise what Serve raises."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cxr_platform.serving import explainer_client
from cxr_platform.serving.explainer_client import HEATMAP_ATTEMPTS, ExplainerClient
from cxr_platform.serving.problems import Problem


class Handle:
    """Every method returns the next of `outcomes`; an exception is raised."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes, self.calls = list(outcomes), 0
        self.heatmap = SimpleNamespace(remote=self._remote)

    def _remote(self, *_: Any) -> Awaitable[Any]:
        self.calls += 1
        outcome = self.outcomes.pop(0)

        async def answer() -> Any:
            if isinstance(outcome, Exception):
                raise outcome
            return await outcome() if callable(outcome) else outcome

        return answer()


def pictured(handle: Any) -> bytes:
    return asyncio.run(ExplainerClient(handle).heatmap("v1", np.zeros((8, 8), np.uint8), 0))


def serve_error(name: str) -> Exception:
    from ray.exceptions import ActorDiedError
    from ray.serve.exceptions import BackPressureError

    return ActorDiedError() if name == "died" else BackPressureError(num_queued_requests=1, max_queued_requests=1)


def test_a_heatmap_is_requested_twice_at_most() -> None:
    assert pictured(Handle(serve_error("died"), b"png")) == b"png"
    with pytest.raises(Problem) as problem:
        pictured(Handle(*[serve_error("died")] * HEATMAP_ATTEMPTS))
    assert problem.value.reason == "unavailable"


def test_a_full_queue_of_the_explainer_is_reported_as_busy() -> None:
    with pytest.raises(Problem) as problem:
        pictured(Handle(serve_error("busy")))
    assert problem.value.reason == "busy"


def test_a_call_without_a_result_ends_after_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explainer_client, "TIMEOUT_SECONDS", 0.05)
    forever: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(10)  # noqa: E731
    with pytest.raises(Problem) as problem:
        pictured(Handle(forever))
    assert problem.value.reason == "unavailable"

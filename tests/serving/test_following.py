"""A service goes on following the champion, whatever a look at the registry raises."""

import asyncio

import pytest

from cxr_platform.registry.promotion import promote
from cxr_platform.registry.store import Registry
from cxr_platform.serving import service as module
from cxr_platform.serving.champion_watcher import Follower
from cxr_platform.serving.screener import Screener
from cxr_platform.serving.service import Service
from tests.serving.builders import filler

PATIENCE_SECONDS = 30.0


def test_a_failing_look_does_not_end_the_following(
    registry: Registry,
    champion: Follower[Screener],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    look, failures = champion.look, [OSError("gone"), RuntimeError("odd")]

    def first_failing() -> None:
        if failures:
            raise failures.pop()
        look()

    async def until_taken_up() -> str:
        async with Service(champion).open():
            while champion.current[0] != "v2":
                await asyncio.sleep(0.01)
        return champion.current[0]

    monkeypatch.setattr(champion, "look", first_failing)
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    registry.add(filler(seed=1))
    promote(registry, "v2", force=True, lead_seconds=0)
    assert asyncio.run(asyncio.wait_for(until_taken_up(), PATIENCE_SECONDS)) == "v2"
    assert caplog.text.count("could not be followed") == 2

"""A service that starts before there is a champion: what it answers until then, and that it needs no restart."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from cxr_platform.registry.promotion import promote
from cxr_platform.registry.store import Registry
from cxr_platform.serving import service as module
from cxr_platform.serving.app import build_app
from cxr_platform.serving.champion_watcher import Follower
from cxr_platform.serving.metrics import NoMetrics
from cxr_platform.serving.screener import Screener
from cxr_platform.serving.service import Service
from tests.serving.asking import reason
from tests.serving.builders import filler, image_png

PATIENCE_SECONDS = 30.0


class Noted(NoMetrics):
    """Remembers what was refused while nothing answered."""

    def __init__(self) -> None:
        self.refused_versions: list[tuple[str, ...]] = []

    def waits_for_model(self, refused: Sequence[str]) -> None:
        self.refused_versions.append(tuple(refused))


def waiting(root: Path) -> Follower[Screener]:
    return Follower(Registry(root), lambda folder, bundle: Screener(folder, bundle, threads=1), patient=True)


def asking(service: Service) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(build_app(service, None), client=("127.0.0.1", 50000))
    return httpx.AsyncClient(transport=transport, base_url="http://server")


async def screened(client: httpx.AsyncClient, path: str = "/v1/screen") -> httpx.Response:
    return await client.post(path, files={"file": image_png()})


def test_without_a_champion_it_is_alive_and_says_why_and_answers_from_the_first_promotion_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(module, "HELD_SECONDS", 0.1)
    registry = Registry(tmp_path / "registry")
    registry.add(filler())

    async def until_promoted() -> None:
        service = Service(waiting(registry.root))
        async with service.open(), asking(service) as client:
            assert (await client.get("/healthz")).json() == {"status": "alive"}
            for path in ("/v1/screen", "/v1/screen/batch"):
                answer = await screened(client, path)
                assert (answer.status_code, reason(answer)) == (503, "no-champion")
                assert answer.headers["retry-after"] == "1"
            for path in ("/readyz", "/v1/model"):
                answer = await client.get(path)
                assert (answer.status_code, reason(answer)) == (503, "no-champion")
                assert answer.headers["retry-after"] == "1"
            await asyncio.to_thread(promote, registry, "v1", lead_seconds=0)
            deadline = time.monotonic() + PATIENCE_SECONDS
            while (await client.get("/readyz")).status_code != 200:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
            answer = await screened(client)
            assert (answer.status_code, answer.json()["model"]["version"]) == (200, "v1")
            assert (await client.get("/readyz")).json()["version"] == "v1"

    asyncio.run(until_promoted())


def test_a_request_that_comes_just_before_the_first_model_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(module, "HELD_SECONDS", PATIENCE_SECONDS)
    registry = Registry(tmp_path / "registry")
    registry.add(filler())

    async def held() -> int:
        service = Service(waiting(registry.root))
        async with service.open(), asking(service) as client:
            asked = asyncio.create_task(screened(client))
            await asyncio.to_thread(promote, registry, "v1", lead_seconds=0)
            return (await asked).status_code

    assert asyncio.run(held()) == 200


def test_a_changed_champion_is_told_and_counted_and_answers_nothing(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HELD_SECONDS", 0.1)
    (registry.root / "v1" / "model.onnx").write_bytes(b"")
    noted = Noted()

    async def refused() -> None:
        service = Service(waiting(registry.root), metrics=noted)
        async with service.open(), asking(service) as client:
            assert reason(await screened(client)) == "broken-champion"
            assert reason(await client.get("/readyz")) == "broken-champion"

    asyncio.run(refused())
    assert {*noted.refused_versions} == {("v1",)}

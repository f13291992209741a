import asyncio
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from cxr_platform.monitoring.reference import Reference
from cxr_platform.registry.promotion import promote
from cxr_platform.registry.store import Registry
from cxr_platform.serving import service as module
from cxr_platform.serving.champion_watcher import Follower
from cxr_platform.serving.metrics import STAGES, NoMetrics
from cxr_platform.serving.problems import Problem
from cxr_platform.serving.screener import Prepared, Screener, Screening
from cxr_platform.serving.service import Clock, Service
from tests.serving.builders import filler, image_png

ID = "ab" * 16


class Noted(NoMetrics):
    """Remembers what was counted."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.decisions: list[tuple[str, str]] = []
        self.reasons: list[str] = []
        self.waited: list[int] = []
        self.versions: list[tuple[str, tuple[str, ...]]] = []

    def stage(self, stage: str, seconds: float) -> None:
        assert seconds >= 0
        self.stages.append(stage)

    def screened(self, screening: Screening, version: str) -> None:
        self.decisions.append((screening.decision, version))

    def refused(self, reason: str) -> None:
        self.reasons.append(reason)

    def waiting(self, requests: int) -> None:
        self.waited.append(requests)

    def serving(self, version: str, reference: Reference, refused: Sequence[str]) -> None:
        assert reference.limit > 0
        self.versions.append((version, tuple(refused)))


@pytest.fixture
def noted() -> Noted:
    return Noted()


def test_an_answer_is_counted_with_its_stages(champion: Follower[Screener], noted: Noted) -> None:
    answer = asyncio.run(Service(champion, metrics=noted).answer(image_png(), ID, clock()))
    assert answer.request_id == ID
    assert noted.decisions == [(answer.decision, "v1")]
    assert {*noted.stages} == {*STAGES} - {"explanation"}
    assert answer.timings_ms.total >= answer.timings_ms.decode + answer.timings_ms.inference


def test_a_file_that_is_no_image_is_counted_by_its_reason(champion: Follower[Screener], noted: Noted) -> None:
    service = Service(champion, metrics=noted)
    for data, reason in ((b"", "empty-file"), (b"x", "not-an-image"), (image_png()[:900], "undecodable")):
        with pytest.raises(Problem) as problem:
            asyncio.run(service.answer(data, ID, clock()))
        assert problem.value.reason == reason
    assert noted.reasons == ["empty-file", "not-an-image", "undecodable"]
    assert noted.decisions == []


def test_places_are_given_back_whatever_happens(champion: Follower[Screener], noted: Noted) -> None:
    service = Service(champion, metrics=noted, most_waiting=1)
    for _ in range(3):
        with pytest.raises(KeyError), service.admitted():
            raise KeyError
    with service.admitted(), pytest.raises(Problem), service.admitted():
        pass
    assert noted.waited == [1, 0] * 4


def test_images_are_worked_on_side_by_side(champion: Follower[Screener], monkeypatch: pytest.MonkeyPatch) -> None:
    together, real = threading.Barrier(3, timeout=20), Screener.prepare

    def prepare(screener: Screener, data: bytes) -> object:
        together.wait()
        return real(screener, data)

    monkeypatch.setattr(Screener, "prepare", prepare)
    answers = asyncio.run(Service(champion, workers=3).answers([image_png(seed) for seed in range(3)], ID, clock()))
    assert not [answer for answer in answers if isinstance(answer, Problem)]


def test_the_event_loop_is_free_while_images_are_worked_on(
    champion: Follower[Screener], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Screener.prepare

    def prepare(screener: Screener, data: bytes) -> object:
        time.sleep(0.3)
        return real(screener, data)

    monkeypatch.setattr(Screener, "prepare", prepare)

    async def turns() -> int:
        answering = asyncio.create_task(Service(champion).answer(image_png(), ID, clock()))
        counted = 0
        while not answering.done():
            await asyncio.sleep(0.01)
            counted += 1
        return counted

    assert asyncio.run(turns()) > 10


def test_a_defect_over_one_file_of_many_is_its_problem_alone_and_is_logged_without_its_text(
    champion: Follower[Screener], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    prepare = Screener.prepare

    def defective(screener: Screener, data: bytes) -> Prepared:
        if data == image_png(1):
            raise RuntimeError("Doe^Jane")
        return prepare(screener, data)

    monkeypatch.setattr(Screener, "prepare", defective)
    files = [image_png(0), image_png(1), image_png(2)]
    good, bad, other = asyncio.run(Service(champion).answers(files, ID, clock()))
    assert isinstance(bad, Problem)
    assert bad.reason == "defect"
    assert not isinstance(good, Problem)
    assert not isinstance(other, Problem)
    assert "RuntimeError" in caplog.text
    assert ID in caplog.text
    assert "Doe" not in caplog.text


def test_a_promotion_is_taken_up_while_requests_are_answered(
    champion: Follower[Screener], registry: Registry, noted: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.02)

    async def until_v2() -> list[str]:
        service, versions = Service(champion, metrics=noted), []
        async with service.open():
            versions.append((await service.answer(image_png(), ID, clock())).model.version)
            await asyncio.to_thread(promote, registry, registry.add(filler(seed=3)), force=True, lead_seconds=0.2)
            deadline = time.monotonic() + 20
            while versions[-1] != "v2" and time.monotonic() < deadline:
                versions.append((await service.answer(image_png(), ID, clock())).model.version)
        return versions

    versions = asyncio.run(until_v2())
    assert versions == ["v1"] * (len(versions) - 1) + ["v2"]
    assert noted.versions[0] == ("v1", ())


def test_a_broken_promotion_is_told_and_changes_nothing(
    champion: Follower[Screener], registry: Registry, noted: Noted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.02)
    promote(registry, registry.add(filler(seed=3)), force=True, lead_seconds=0)
    (registry.root / "v2" / "model.onnx").unlink()

    async def until_refused() -> str:
        service = Service(champion, metrics=noted)
        async with service.open():
            deadline = time.monotonic() + 20
            while ("v1", ("v2",)) not in noted.versions and time.monotonic() < deadline:
                await asyncio.sleep(0.02)
            return (await service.answer(image_png(), ID, clock())).model.version

    assert asyncio.run(until_refused()) == "v1"
    assert champion.status.refused == ("v2",)


def clock() -> Clock:
    made = Clock()
    with made.stage("upload"):
        pass
    return made

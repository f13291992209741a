"""Screening, polling for the champion, and the wait for a first one, without HTTP servers and Ray."""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from cxr_platform.labels import CLASSES
from cxr_platform.monitoring.reference import Reference
from cxr_platform.registry.promotion import promote
from cxr_platform.registry.store import Registry
from cxr_platform.serving import service as module
from cxr_platform.serving.app import build_app
from cxr_platform.serving.champion_watcher import ChampionWatcher
from cxr_platform.serving.dicom_decoder import DicomDecoder
from cxr_platform.serving.metrics import STAGES, ServingMetrics
from cxr_platform.serving.problems import Problem
from cxr_platform.serving.schema import ScreenAnswer
from cxr_platform.serving.screener import PreparedImage, Screener, Screening, prepare_image
from cxr_platform.serving.service import QUOTING_LIBRARIES, Service, StageTimer, silence_libraries
from cxr_platform.serving.shadow import Shadow
from cxr_platform.serving.upload import Limits, read_files
from tests.intake.files import dicom
from tests.serving.asgi_client import MULTIPART, reason
from tests.serving.builders import filler, image, image_png
from tests.serving.test_upload import receiving

ID = "ab" * 16
TIMEOUT_SECONDS = 120.0
"""Far more than any of it takes."""


class RecordedMetrics(ServingMetrics):
    """Remembers what was counted."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.decisions: list[tuple[str, str]] = []
        self.reasons: list[str] = []
        self.waiting: list[int] = []
        self.versions: list[tuple[str, tuple[str, ...]]] = []
        self.refused_without_version: list[tuple[str, ...]] = []

    def observe_stage(self, stage: str, seconds: float) -> None:
        assert seconds >= 0
        self.stages.append(stage)

    def count_screening(self, screening: Screening, version: str) -> None:
        self.decisions.append((screening.decision, version))

    def count_refusal(self, reason: str) -> None:
        self.reasons.append(reason)

    def set_waiting(self, requests: int) -> None:
        self.waiting.append(requests)

    def set_version(self, version: str, reference: Reference, refused: Sequence[str]) -> None:
        assert reference.limit > 0
        self.versions.append((version, tuple(refused)))

    def set_no_version(self, refused: Sequence[str]) -> None:
        self.refused_without_version.append(tuple(refused))


@pytest.fixture
def metrics() -> RecordedMetrics:
    return RecordedMetrics()


def timer() -> StageTimer:
    made = StageTimer()
    with made.stage("upload"):
        pass
    return made


def test_an_answer_and_the_duration_of_its_stages_are_counted(
    champion: ChampionWatcher[Screener], metrics: RecordedMetrics
) -> None:
    answer = asyncio.run(Service(champion, metrics=metrics).screen(image_png(), ID, timer()))
    assert answer.request_id == ID
    assert metrics.decisions == [(answer.decision, "v1")]
    assert {*metrics.stages} == {*STAGES} - {"explanation"}
    assert answer.timings_ms.total >= answer.timings_ms.decode + answer.timings_ms.inference


def test_a_refused_file_is_counted_by_its_reason(champion: ChampionWatcher[Screener], metrics: RecordedMetrics) -> None:
    service = Service(champion, metrics=metrics)
    for data, expected in ((b"", "empty-file"), (b"x", "not-an-image"), (image_png()[:900], "undecodable")):
        with pytest.raises(Problem) as problem:
            asyncio.run(service.screen(data, ID, timer()))
        assert problem.value.reason == expected
    assert metrics.reasons == ["empty-file", "not-an-image", "undecodable"]
    assert metrics.decisions == []


def test_an_admitted_request_is_released_after_an_error(
    champion: ChampionWatcher[Screener], metrics: RecordedMetrics
) -> None:
    service = Service(champion, metrics=metrics, max_waiting=1)
    for _ in range(3):
        with pytest.raises(KeyError), service.admit():
            raise KeyError
    with service.admit(), pytest.raises(Problem), service.admit():
        pass
    assert metrics.waiting == [1, 0] * 4


def test_other_images_are_answered_while_a_dicom_file_occupies_the_decoder(champion: ChampionWatcher[Screener]) -> None:
    begun, released = threading.Event(), threading.Event()

    class Held(DicomDecoder):
        def _decode(self, data: bytes, request: Any) -> PreparedImage:
            begun.set()
            assert released.wait(TIMEOUT_SECONDS)
            return prepare_image(data, request.preprocessing)

    async def screen_both() -> None:
        service, of_dicom = Service(champion, decoder=Held()), timer()
        slow = asyncio.create_task(service.screen(dicom(image(0)), ID, of_dicom))
        await asyncio.to_thread(begun.wait, TIMEOUT_SECONDS)
        began = time.perf_counter()
        for seed in range(3):
            await service.screen(image_png(seed), ID, timer())
        assert not slow.done()
        held = time.perf_counter() - began
        released.set()
        await slow
        assert of_dicom.stages["waiting"] >= held, "the wait for the decoder counts"

    asyncio.run(screen_both())


def test_images_are_screened_in_parallel(champion: ChampionWatcher[Screener], monkeypatch: pytest.MonkeyPatch) -> None:
    together, real = threading.Barrier(3, timeout=TIMEOUT_SECONDS), Screener.prepare

    def prepare(screener: Screener, data: bytes, with_source: bool) -> object:
        together.wait()
        return real(screener, data, with_source)

    monkeypatch.setattr(Screener, "prepare", prepare)
    answers = asyncio.run(
        Service(champion, workers=3).screen_batch([image_png(seed) for seed in range(3)], ID, timer())
    )
    assert not [answer for answer in answers if isinstance(answer, Problem)]


def test_the_event_loop_is_free_while_images_are_screened(
    champion: ChampionWatcher[Screener], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, turned, real = threading.Event(), threading.Event(), Screener.prepare

    def prepare(screener: Screener, data: bytes, with_source: bool) -> object:
        begun.set()
        assert turned.wait(TIMEOUT_SECONDS), "the event loop waits for this"
        return real(screener, data, with_source)

    monkeypatch.setattr(Screener, "prepare", prepare)

    async def screen() -> None:
        answering = asyncio.create_task(Service(champion).screen(image_png(), ID, timer()))
        await asyncio.to_thread(begun.wait, TIMEOUT_SECONDS)
        turned.set()
        await answering

    asyncio.run(screen())


def test_an_internal_error_with_one_file_of_a_batch_affects_no_other_and_is_logged_without_its_text(
    champion: ChampionWatcher[Screener], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    prepare = Screener.prepare

    def defective(screener: Screener, data: bytes, with_source: bool) -> PreparedImage:
        if data == image_png(1):
            raise RuntimeError("Doe^Jane")
        return prepare(screener, data, with_source)

    monkeypatch.setattr(Screener, "prepare", defective)
    files = [image_png(0), image_png(1), image_png(2)]
    good, bad, other = asyncio.run(Service(champion).screen_batch(files, ID, timer()))
    assert isinstance(bad, Problem)
    assert bad.reason == "internal-error"
    assert not isinstance(good, Problem)
    assert not isinstance(other, Problem)
    assert "RuntimeError" in caplog.text
    assert ID in caplog.text
    assert "Doe" not in caplog.text


def test_a_promotion_takes_effect_while_requests_are_answered(
    champion: ChampionWatcher[Screener], registry: Registry, metrics: RecordedMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.02)

    async def screen_until_v2() -> list[str]:
        service, versions = Service(champion, metrics=metrics), []
        async with service.running():
            versions.append((await service.screen(image_png(), ID, timer())).model.version)
            await asyncio.to_thread(promote, registry, registry.add(filler(seed=3)), force=True, lead_seconds=0.2)
            deadline = time.monotonic() + TIMEOUT_SECONDS
            while versions[-1] != "v2" and time.monotonic() < deadline:
                versions.append((await service.screen(image_png(), ID, timer())).model.version)
        return versions

    versions = asyncio.run(screen_until_v2())
    assert versions == ["v1"] * (len(versions) - 1) + ["v2"]
    assert metrics.versions[0] == ("v1", ())


def test_a_damaged_promotion_is_reported_and_changes_nothing(
    champion: ChampionWatcher[Screener],
    registry: Registry,
    metrics: RecordedMetrics,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.02)
    promote(registry, registry.add(filler(seed=3)), force=True, lead_seconds=0)
    (registry.root / "v2" / "model.onnx").unlink()

    async def wait_for_refusal() -> str:
        service = Service(champion, metrics=metrics)
        async with service.running():
            deadline = time.monotonic() + TIMEOUT_SECONDS
            while ("v1", ("v2",)) not in metrics.versions and time.monotonic() < deadline:
                await asyncio.sleep(0.02)
            return (await service.screen(image_png(), ID, timer())).model.version

    assert asyncio.run(wait_for_refusal()) == "v1"
    assert champion.status.refused == ("v2",)


def test_a_failed_poll_is_repeated(
    registry: Registry,
    champion: ChampionWatcher[Screener],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    poll, failures = champion.poll, [OSError("gone"), RuntimeError("odd")]

    def first_failing() -> None:
        if failures:
            raise failures.pop()
        poll()

    async def wait_for_v2() -> str:
        async with Service(champion).running():
            while champion.current[0] != "v2":
                await asyncio.sleep(0.01)
        return champion.current[0]

    monkeypatch.setattr(champion, "poll", first_failing)
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    registry.add(filler(seed=1))
    promote(registry, "v2", force=True, lead_seconds=0)
    assert asyncio.run(asyncio.wait_for(wait_for_v2(), TIMEOUT_SECONDS)) == "v2"
    assert caplog.text.count("Polling the registry failed") == 2


def waiting_watcher(root: Path) -> ChampionWatcher[Screener]:
    return ChampionWatcher(Registry(root), lambda folder, bundle: Screener(folder, bundle, threads=1), wait=True)


def http_client(service: Service) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(build_app(service, None), client=("127.0.0.1", 50000))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


async def screened(client: httpx.AsyncClient, path: str = "/v1/screen") -> httpx.Response:
    return await client.post(path, files={"file": image_png()})


def test_without_a_champion_the_reason_is_given_until_the_first_promotion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(module, "MODEL_WAIT_SECONDS", 0.1)
    registry = Registry(tmp_path / "registry")
    registry.add(filler())

    async def wait_for_promotion() -> None:
        service = Service(waiting_watcher(registry.root))
        async with service.running(), http_client(service) as client:
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
            deadline = time.monotonic() + TIMEOUT_SECONDS
            while (await client.get("/readyz")).status_code != 200:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
            answer = await screened(client)
            assert (answer.status_code, answer.json()["model"]["version"]) == (200, "v1")
            assert (await client.get("/readyz")).json()["version"] == "v1"

    asyncio.run(wait_for_promotion())


def test_a_request_shortly_before_the_first_model_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(module, "MODEL_WAIT_SECONDS", TIMEOUT_SECONDS)
    registry = Registry(tmp_path / "registry")
    registry.add(filler())

    async def held() -> int:
        service = Service(waiting_watcher(registry.root))
        async with service.running(), http_client(service) as client:
            request = asyncio.create_task(screened(client))
            await asyncio.to_thread(promote, registry, "v1", lead_seconds=0)
            return (await request).status_code

    assert asyncio.run(held()) == 200


def test_a_changed_champion_is_reported_and_never_answers(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MODEL_WAIT_SECONDS", 0.1)
    (registry.root / "v1" / "model.onnx").write_bytes(b"")
    metrics = RecordedMetrics()

    async def refused() -> None:
        service = Service(waiting_watcher(registry.root), metrics=metrics)
        async with service.running(), http_client(service) as client:
            assert reason(await screened(client)) == "broken-champion"
            assert reason(await client.get("/readyz")) == "broken-champion"

    asyncio.run(refused())
    assert {*metrics.refused_without_version} == {("v1",)}


@pytest.fixture
def levels() -> Iterator[None]:
    """The libraries log everything; their levels are restored afterwards."""
    before = {name: logging.getLogger(name).level for name in QUOTING_LIBRARIES}
    for name in QUOTING_LIBRARIES:
        logging.getLogger(name).setLevel(logging.NOTSET)
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def upload_garbage() -> None:
    with pytest.raises(Problem):
        asyncio.run(read_files(receiving([b"--images\r\nDoe Jane"]), MULTIPART, Limits(), 1))


@pytest.mark.usefixtures("levels")
def test_the_multipart_parser_logs_what_it_reads(caplog: pytest.LogCaptureFixture) -> None:
    upload_garbage()
    assert "python_multipart" in {record.name.partition(".")[0] for record in caplog.records}


@pytest.mark.usefixtures("levels")
def test_silenced_libraries_log_nothing(caplog: pytest.LogCaptureFixture) -> None:
    silence_libraries()
    caplog.clear()
    upload_garbage()
    assert not caplog.records


def test_a_challenger_screens_what_was_answered(champion: ChampionWatcher[Screener], registry: Registry) -> None:
    registry.add(filler(seed=5))
    counted: queue.Queue[tuple[str, str, str]] = queue.Queue()

    class Recorded(ServingMetrics):
        def count_shadow(self, champion: str, decision: str, challenger: Screener, screening: Screening) -> None:
            assert screening.label in CLASSES
            counted.put((champion, decision, challenger.bundle.version))

    metrics = Recorded()
    shadow = Shadow(lambda: Screener(*registry.open("v2"), threads=1), metrics)
    service = Service(champion, shadow=shadow, metrics=metrics)

    async def screen() -> ScreenAnswer:
        async with service.running():
            answer = await service.screen(image_png(), ID, timer())
            await asyncio.to_thread(lambda: counted.put(counted.get(timeout=TIMEOUT_SECONDS)))
            return answer

    answer = asyncio.run(screen())
    assert (answer.model.version, counted.get_nowait()) == ("v1", ("v1", answer.decision, "v2"))

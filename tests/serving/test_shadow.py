import queue
import threading
from dataclasses import replace

import pytest

from cxr_platform.errors import RegistryError
from cxr_platform.registry.store import Registry
from cxr_platform.serving import shadow
from cxr_platform.serving.screener import Screener, Screening
from cxr_platform.serving.shadow import Shadow
from tests.registry.builders import changed
from tests.serving.builders import filler, image_png

TIMEOUT_SECONDS = 60.0


class Recorder:
    """Receives what a shadow counts; each call is an item of `calls`."""

    def __init__(self) -> None:
        self.calls: queue.Queue[tuple[object, ...]] = queue.Queue()

    def count_shadow(self, champion: str, decision: str, challenger: Screener, screening: Screening) -> None:
        self.calls.put((champion, decision, challenger.bundle.version, screening))

    def count_shadow_skip(self, reason: str) -> None:
        self.calls.put((reason,))

    def next(self) -> tuple[object, ...]:
        return self.calls.get(timeout=TIMEOUT_SECONDS)


@pytest.fixture
def challenger(registry: Registry) -> Screener:
    registry.add(filler(seed=5))
    return Screener(*registry.open("v2"), threads=1)


def screened(screener: Screener, seed: int = 0) -> Screening:
    return screener.screen([screener.prepare(image_png(seed))])[0]


def test_the_challenger_screens_the_same_image(screener: Screener, challenger: Screener) -> None:
    recorder, screening = Recorder(), screened(screener)
    made = Shadow(lambda: challenger, recorder)
    made.add(screening, screener.bundle)
    champion, decision, version, result = recorder.next()
    made.close()
    assert (champion, decision, version) == ("v1", screening.decision, "v2")
    assert isinstance(result, Screening)
    assert result.covid19 == screened(challenger).covid19 != screening.covid19


def test_an_image_is_resized_for_a_challenger_of_another_input_size(screener: Screener, challenger: Screener) -> None:
    recorder, screening = Recorder(), screened(screener)
    smaller = replace(screening, prepared=replace(screening.prepared, image=screening.prepared.image[:16, :16]))
    bundle = changed(screener.bundle, preprocessing=changed(screener.bundle.preprocessing, input_size=16))
    made = Shadow(lambda: challenger, recorder)
    made.add(smaller, bundle)
    *_, result = recorder.next()
    made.close()
    assert isinstance(result, Screening)
    assert result.covid19 == screened(challenger).covid19


def test_a_challenger_of_views_gets_views_of_the_image(screener: Screener, registry: Registry) -> None:
    registry.add(filler(seed=5, views=("whole", "lungs")))
    challenger = Screener(*registry.open("v2"), threads=1)
    recorder, screening = Recorder(), screened(screener)
    made = Shadow(lambda: challenger, recorder)
    made.add(screening, screener.bundle)
    *_, result = recorder.next()
    made.close()
    assert isinstance(result, Screening)
    assert result.covid19 == screened(challenger).covid19


def test_other_intake_is_skipped_and_the_champion_itself_is_not_compared(
    screener: Screener, challenger: Screener
) -> None:
    recorder, screening = Recorder(), screened(screener)
    preprocessing = screener.bundle.preprocessing
    other = replace(preprocessing.quality, min_contrast=preprocessing.quality.min_contrast / 2)
    bundle = changed(screener.bundle, preprocessing=changed(preprocessing, quality=other))
    made = Shadow(lambda: challenger, recorder)
    made.add(screening, challenger.bundle)  # as after its promotion
    made.add(screening, bundle)
    assert recorder.next() == ("other-intake",)
    made.close()
    assert recorder.calls.empty()


def test_answers_do_not_wait_for_a_slow_challenger(screener: Screener, challenger: Screener) -> None:
    recorder, screening, loading = Recorder(), screened(screener), threading.Event()

    def load() -> Screener:
        assert loading.wait(TIMEOUT_SECONDS)
        return challenger

    made = Shadow(load, recorder, waiting=2)
    for _ in range(3):
        made.add(screening, screener.bundle)
    assert recorder.next() == ("queue-full",)
    loading.set()
    assert [recorder.next()[2] for _ in range(2)] == ["v2", "v2"]
    made.close()


def test_a_failure_is_counted_and_the_next_image_is_screened(screener: Screener, challenger: Screener) -> None:
    recorder, screening = Recorder(), screened(screener)
    broken = replace(screening, prepared=replace(screening.prepared, image=screening.prepared.image[:3, :3]))
    made = Shadow(lambda: challenger, recorder)
    made.add(broken, screener.bundle)
    assert recorder.next() == ("failed",)
    made.add(screening, screener.bundle)
    assert recorder.next()[2] == "v2"
    made.close()


@pytest.mark.parametrize("error", [RegistryError("Expected version v9.", received="v1"), OSError("stale handle")])
def test_a_challenger_that_cannot_be_loaded_is_tried_again_later(
    screener: Screener,
    challenger: Screener,
    error: Exception,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempts: list[bool] = []

    def load() -> Screener:
        attempts.append(True)
        if len(attempts) == 1:
            raise error
        return challenger

    recorder, screening = Recorder(), screened(screener)
    made = Shadow(load, recorder)
    made.add(screening, screener.bundle)
    assert recorder.next() == ("not-loaded",)
    assert "The challenger cannot be loaded" in caplog.text
    monkeypatch.setattr(shadow, "RETRY_SECONDS", 0.0)
    made.add(screening, screener.bundle)
    assert recorder.next()[2] == "v2"
    made.close()

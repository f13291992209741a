"""The real process that decodes DICOM, with lowered limits, and what a client gets of an image that reaches one."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from starlette.types import ASGIApp

from cxr_platform.serving import dicom_process
from cxr_platform.serving.app import build_app
from cxr_platform.serving.champion_watcher import ChampionWatcher
from cxr_platform.serving.dicom_decoder import DicomDecoder
from cxr_platform.serving.dicom_process import CPU_SECONDS, MEMORY_BYTES
from cxr_platform.serving.metrics import ServingMetrics
from cxr_platform.serving.screener import Screener
from cxr_platform.serving.service import Service
from tests.intake.files import dicom
from tests.serving.asgi_client import post, reason
from tests.serving.builders import image

LARGE = dicom(np.tile(image(1, 1000).astype(np.uint16) << 8, (3, 3)))
"""9 million pixels, which take the process about 200 MiB; it has 75 MiB without an image."""

MOST_IMAGES = 300
"""Each takes some hundredths of a second of processor time."""


class Limited(ServingMetrics):
    """An application whose process has other limits than `dicom_process` states; `ends` says why it ended."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, champion: Any, memory: int = MEMORY_BYTES, seconds: int = CPU_SECONDS
    ) -> None:
        self.memory, self.seconds = memory, seconds

        def start(command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
            assert command == [sys.executable, "-m", dicom_process.__name__]
            lowered = f"module.MEMORY_BYTES, module.CPU_SECONDS = {self.memory}, {self.seconds}"
            script = f"import {dicom_process.__name__} as module; {lowered}; module.main()"
            return popen([sys.executable, "-c", script], **options)

        popen = subprocess.Popen
        monkeypatch.setattr(subprocess, "Popen", start)
        self.ends: list[str] = []
        self.decoder = DicomDecoder(self)
        self.app: ASGIApp = build_app(Service(champion, decoder=self.decoder), None)

    def count_dicom_end(self, cause: str) -> None:
        self.ends.append(cause)

    def answers(self, data: bytes) -> bool:
        """Return True for an answer, False for the problem of an image that ends the process."""
        answer = post(self.app, data)
        if answer.status_code == 200:
            return True
        assert (answer.status_code, reason(answer)) == (422, "undecodable")
        return False


@pytest.fixture
def limits(
    monkeypatch: pytest.MonkeyPatch, champion: ChampionWatcher[Screener], request: pytest.FixtureRequest
) -> Iterator[Limited]:
    made = Limited(monkeypatch, champion, **request.param)
    yield made
    made.decoder.close()


@pytest.mark.parametrize("limits", [{}, {"memory": 160 * 2**20}], indirect=True, ids=["as stated", "lowered"])
def test_an_image_that_takes_more_memory_than_allowed_is_undecodable(
    limits: Limited, request: pytest.FixtureRequest
) -> None:
    lowered = request.node.callspec.id == "lowered"
    assert limits.answers(dicom(image(0)))
    assert limits.answers(LARGE) is not lowered
    assert limits.ends == ["memory"] * lowered
    assert limits.answers(dicom(image(0))), "the next image has a new process"


@pytest.mark.parametrize("limits", [{"seconds": 0}], indirect=True)
def test_an_image_that_takes_more_processor_time_than_allowed_is_undecodable(limits: Limited) -> None:
    """With no second allowed the limit is the next full second of the process, which one of several images passes."""
    answered = [limits.answers(LARGE)]
    while answered[-1]:
        assert len(answered) < MOST_IMAGES
        answered.append(limits.answers(LARGE))
    assert limits.ends == ["time"]
    limits.seconds = CPU_SECONDS
    assert limits.answers(dicom(image(0))), "the next image has a new process"

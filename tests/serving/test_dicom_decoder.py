"""The real process with sound and hostile files; small programs in its place where it misbehaves."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxr_platform.config import DecodingConfig, QualityConfig
from cxr_platform.errors import ImageRefused
from cxr_platform.intake.dicom import read_source
from cxr_platform.registry.bundle import Preprocessing
from cxr_platform.serving import dicom_decoder as module
from cxr_platform.serving.confinement import NICE
from cxr_platform.serving.dicom_decoder import MAX_WAITING, DicomDecoder
from cxr_platform.serving.dicom_process import LENGTHS, MEMORY_BYTES, READY
from cxr_platform.serving.metrics import ServingMetrics
from cxr_platform.serving.problems import Problem
from cxr_platform.serving.screener import PreparedImage, prepare_image
from tests.intake.files import dicom, many_elements
from tests.registry.builders import changed
from tests.serving.builders import image

SETTINGS = Preprocessing(decoding=DecodingConfig(), quality=QualityConfig(), frontal_only=True, input_size=32)
SOURCE = {
    "sop_class_uid": "1.2.840.10008.5.1.4.1.1.1.1",
    "sop_instance_uid": "1.2.3",
    "study_instance_uid": "1.2",
    "series_instance_uid": "1.2.1",
    "attributes": {},
    "lossy": False,
}
SECRETS = {"CXR_API_KEYS": "a key", "RAY_AUTH_TOKEN": "a token", "AWS_SECRET_ACCESS_KEY": "a secret"}


@pytest.fixture(scope="module")
def decoder() -> Iterator[DicomDecoder]:
    """A decoder whose process was started with secrets in the environment."""
    made = DicomDecoder()
    with pytest.MonkeyPatch.context() as patched:
        for name, value in SECRETS.items():
            patched.setenv(name, value)
        decode(made, dicom(image(0)))
    yield made
    made.close()


def decode(decoder: DicomDecoder, data: bytes) -> PreparedImage:
    return asyncio.run(decoder.prepare(data, SETTINGS))


def process(decoder: DicomDecoder) -> "subprocess.Popen[bytes]":
    assert decoder._process is not None
    return decoder._process


def test_an_image_is_the_same_as_decoded_here(decoder: DicomDecoder) -> None:
    for data in (dicom(image(1)), dicom(image(2), ViewPosition="LL")):
        there, here = decode(decoder, data), prepare_image(data, SETTINGS)
        assert np.array_equal(there.letterboxed, here.letterboxed)
        assert np.array_equal(there.image, here.image)
        for name in ("container", "brightness", "contrast", "padding", "findings"):
            assert getattr(there, name) == getattr(here, name)


def test_views_of_an_image_are_the_same_as_made_here(decoder: DicomDecoder) -> None:
    settings, data = changed(SETTINGS, views=("lungs", "whole")), dicom(image(1)[:, :150])
    there, here = asyncio.run(decoder.prepare(data, settings)), prepare_image(data, settings)
    assert there.image.shape == (2, 32, 32)
    assert np.array_equal(there.image, here.image)
    assert (there.width, there.height) == (here.width, here.height) == (150, 200)


def test_patient_and_study_come_with_the_image_if_they_are_asked_for(decoder: DicomDecoder) -> None:
    data = dicom(image(1), StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.4", PatientName="Doe^Jane")
    assert decode(decoder, data).source is None
    assert asyncio.run(decoder.prepare(data, SETTINGS, with_source=True)).source == read_source(data)
    before = process(decoder).pid
    with pytest.raises(ImageRefused, match=r"^incomplete-dicom"):
        asyncio.run(decoder.prepare(dicom(image(1)), SETTINGS, with_source=True))
    assert process(decoder).pid == before


def test_a_file_that_cannot_be_used_is_refused_with_its_reason(decoder: DicomDecoder) -> None:
    for data, reason in (
        (dicom(image(0))[:2000], "undecodable"),
        (dicom(image(0), Modality="CT", SOPClassUID="1.2.840.10008.5.1.4.1.1.2"), "modality"),
        (many_elements(dicom(image(0)), 3 * 2**20), "undecodable"),
    ):
        before = process(decoder).pid
        with pytest.raises(ImageRefused, match=f"^{reason}"):
            decode(decoder, data)
        assert process(decoder).pid == before


def test_the_process_has_no_secrets_and_a_low_priority(decoder: DicomDecoder) -> None:
    folder = Path("/proc") / str(process(decoder).pid)
    environment = (folder / "environ").read_bytes().split(b"\0")
    names = {entry.partition(b"=")[0].decode() for entry in environment if entry}
    assert names <= {*module.PASSED_VARIABLES, *module.SET_VARIABLES, "PYTHONPATH"}
    assert os.getpriority(os.PRIO_PROCESS, process(decoder).pid) >= NICE
    assert (folder / "oom_score_adj").read_text(encoding="ascii").strip() == "1000"
    limits = (folder / "limits").read_text(encoding="ascii")
    assert f"Max data size             {MEMORY_BYTES}" in limits
    assert "Max file size             0" in limits


def test_an_image_after_a_crash_gets_a_new_process(decoder: DicomDecoder) -> None:
    before = process(decoder)
    before.send_signal(signal.SIGKILL)
    before.wait()
    assert decode(decoder, dicom(image(0))).container == "DICOM"
    assert process(decoder).pid != before.pid


class CountedEnds(ServingMetrics):
    def __init__(self) -> None:
        self.ends: list[str] = []

    def count_dicom_end(self, cause: str) -> None:
        self.ends.append(cause)


def replaced(monkeypatch: pytest.MonkeyPatch, script: str, landlock: int = 6) -> DicomDecoder:
    """Return a decoder whose process is a small program, which starts after it has reported to be ready."""

    def start(command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
        ready = f"import os, sys, time; os.write(1, {READY + b'%d' % landlock!r} + b'\\n')\n" if script else ""
        return popen([sys.executable, "-S", "-c", ready + script], **options)

    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", start)
    return DicomDecoder(CountedEnds())


def ends(decoder: DicomDecoder) -> list[str]:
    assert isinstance(decoder._metrics, CountedEnds)
    return decoder._metrics.ends


def message(fields: Any, pixels: int = 0) -> str:
    content = json.dumps(fields).encode()
    return f"os.write(1, {LENGTHS.pack(len(content), pixels) + content!r} + bytes({pixels})); time.sleep(60)"


SIDE = SETTINGS.decoding.image_size
PIXELS = SIDE**2 + SETTINGS.input_size**2


@pytest.mark.parametrize(
    "script",
    [
        "os.abort()",
        "os.write(1, b'x' * 100)",
        message({"refused": None}),
        message({}, PIXELS + 1),
        message({"findings": [["<script>", ""]]}, PIXELS),
        message({"brightness": 7.0}, PIXELS),
        message({"findings": [["view", "x" * 101]]}, PIXELS),
        message({"error": "Doe^Jane"}),
        message({"unknown": 1}, PIXELS),
        message({"source": SOURCE}, PIXELS),
        message({"source": {**SOURCE, "study_instance_uid": "1.2.x"}}, PIXELS),
        message([]),
    ],
)
def test_a_process_that_ends_or_answers_with_something_else_makes_the_image_undecodable(
    monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    decoder = replaced(monkeypatch, script)
    with pytest.raises(ImageRefused, match="undecodable"):
        decode(decoder, b"data")
    assert decoder._process is None, "the next image gets a new one"
    assert len(ends(decoder)) == 1
    decoder.close()


def test_an_answer_of_the_right_form_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = replaced(monkeypatch, message({"brightness": 0.5}, PIXELS))
    assert decode(decoder, b"data").letterboxed.shape == (SIDE, SIDE)
    decoder.close()


@pytest.mark.parametrize(
    ("script", "cause"),
    [
        ("os.abort()", "crash"),
        ("os._exit(12)", "memory"),
        ("os._exit(1)", "exit"),
        ("import signal; os.kill(os.getpid(), signal.SIGXCPU)", "time"),
    ],
)
def test_why_the_process_ended_is_logged_and_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, script: str, cause: str
) -> None:
    decoder = replaced(monkeypatch, script)
    with pytest.raises(ImageRefused, match="undecodable"):
        decode(decoder, b"data")
    assert ends(decoder) == [cause]
    assert f"({cause})" in caplog.text
    decoder.close()


def test_an_exception_of_this_program_is_an_internal_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    decoder = replaced(monkeypatch, message({"error": "KeyError"}))
    with pytest.raises(Problem) as problem:
        decode(decoder, b"data")
    assert problem.value.reason == "internal-error"
    assert "reports an internal error: KeyError" in caplog.text
    decoder.close()


@pytest.mark.parametrize(("landlock", "warning"), [(0, "no Landlock"), (3, "old Landlock"), (6, "")])
def test_what_the_kernel_cannot_forbid_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, landlock: int, warning: str
) -> None:
    decoder = replaced(monkeypatch, "os.abort()", landlock)
    for _ in range(2):
        with pytest.raises(ImageRefused):
            decode(decoder, b"data")
    assert caplog.text.count("Landlock") == 2 * bool(warning)
    assert warning in caplog.text
    decoder.close()


def test_a_process_that_cannot_be_started_is_503_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def start(*_: Any, **__: Any) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(subprocess, "Popen", start)
    decoder = DicomDecoder(CountedEnds())
    with pytest.raises(Problem) as problem:
        decode(decoder, b"data")
    assert (problem.value.reason, ends(decoder)) == ("unavailable", ["start"])
    assert "does not start: Too many open files" in caplog.text
    decoder.close()


@pytest.mark.parametrize(("script", "cause"), [("time.sleep(60)", "late"), ("", "start")])
def test_without_an_answer_in_time_or_a_process_the_answer_is_503(
    monkeypatch: pytest.MonkeyPatch, script: str, cause: str
) -> None:
    real = DicomDecoder._start

    def start(decoder: DicomDecoder) -> Any:
        process = real(decoder)
        monkeypatch.setattr(module, "WALL_SECONDS", 0.5)  # of an answer, and not of the start
        return process

    monkeypatch.setattr(DicomDecoder, "_start", start)
    decoder = replaced(monkeypatch, script)
    with pytest.raises(Problem) as problem:
        decode(decoder, bytes(2**20))
    assert (problem.value.reason, ends(decoder)) == ("unavailable", [cause])
    decoder.close()


def test_few_images_wait_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = threading.Event()
    blocked: Callable[..., PreparedImage] = lambda *_: (opened.wait(20), prepare_image(dicom(image(0)), SETTINGS))[1]  # noqa: E731
    monkeypatch.setattr(DicomDecoder, "_decode", blocked)

    async def flood() -> list[Any]:
        decoder = DicomDecoder()
        asked = [asyncio.create_task(decoder.prepare(b"data", SETTINGS)) for _ in range(MAX_WAITING + 3)]
        await asyncio.wait(asked[MAX_WAITING:])
        opened.set()
        return await asyncio.gather(*asked, return_exceptions=True)

    answers = asyncio.run(flood())
    assert all(isinstance(answer, PreparedImage) for answer in answers[:MAX_WAITING])
    assert [answer.reason for answer in answers[MAX_WAITING:]] == ["busy"] * 3

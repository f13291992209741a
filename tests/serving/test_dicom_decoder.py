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
from cxr_platform.registry.bundle import Preprocessing
from cxr_platform.serving import dicom_decoder as module
from cxr_platform.serving.dicom_decoder import LENGTHS, MAX_WAITING, NICE, READY, DicomDecoder
from cxr_platform.serving.problems import Problem
from cxr_platform.serving.screener import PreparedImage, prepare_image
from tests.conftest import REPOSITORY
from tests.intake.files import dicom, many_elements
from tests.serving.builders import image

SETTINGS = Preprocessing(decoding=DecodingConfig(), quality=QualityConfig(), frontal_only=True, input_size=32)
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
    assert f"Max data size             {module.MEMORY_BYTES}" in limits
    assert "Max file size             0" in limits


def test_an_image_after_a_crash_gets_a_new_process(decoder: DicomDecoder) -> None:
    before = process(decoder)
    before.send_signal(signal.SIGKILL)
    before.wait()
    assert decode(decoder, dicom(image(0))).container == "DICOM"
    assert process(decoder).pid != before.pid


def test_the_process_can_change_no_file_and_start_no_program(tmp_path: Path) -> None:
    """As another program with the same limits, because the process itself does nothing but decode."""
    (tmp_path / "kept").write_text("kept", encoding="utf-8")
    script = """
import os, socket, subprocess
from cxr_platform.serving.dicom_decoder import _confine
_confine()
def write():
    file = os.open("new", os.O_CREAT | os.O_WRONLY)
    os.write(file, b"x")
def connect():
    socket.create_connection(("127.0.0.1", 9), 1)
for name, attempt in {"write": write, "remove": lambda: os.remove("kept"), "rename": lambda: os.rename("kept", "k"),
        "run": lambda: subprocess.run(["/bin/true"]), "connect": connect}.items():
    try:
        attempt()
        print(name, "worked")
    except OSError as error:
        print(name, type(error).__name__)
print(len(open("kept").read()))
"""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    results = done.stdout.split()
    assert results[0] == "write", done.stderr
    assert results[-1] == "4", "reading works"
    assert "worked" not in results[:2], "the limit of file sizes holds on every kernel"
    if landlock_version() >= 4:
        assert "worked" not in results
        assert results[-2] == "PermissionError", "not even a closed port answers"


def landlock_version() -> int:
    import ctypes

    return int(ctypes.CDLL(None).syscall(444, None, 0, 1))


def replaced(monkeypatch: pytest.MonkeyPatch, script: str) -> DicomDecoder:
    """Return a decoder whose process is a small program, which starts after it has reported to be ready."""

    def start(command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
        ready = f"import os, sys, time; os.write(1, {READY!r})\n" if script else ""
        return popen([sys.executable, "-S", "-c", ready + script], **options)

    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", start)
    return DicomDecoder()


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
        message({"unknown": 1}, PIXELS),
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
    decoder.close()


def test_a_process_of_the_right_form_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = replaced(monkeypatch, message({"brightness": 0.5}, PIXELS))
    assert decode(decoder, b"data").letterboxed.shape == (SIDE, SIDE)
    decoder.close()


@pytest.mark.parametrize("script", ["time.sleep(60)", ""])
def test_without_an_answer_in_time_or_a_process_the_answer_is_503(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setattr(module, "WALL_SECONDS", 2.0)
    decoder = replaced(monkeypatch, script)
    with pytest.raises(Problem) as problem:
        decode(decoder, bytes(2**20))
    assert problem.value.reason == "unavailable"
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

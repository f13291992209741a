"""The program with whole and broken messages; how a replica uses it is in test_dicom_decoder.py."""

import io
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from cxr_platform.config import DecodingConfig, QualityConfig
from cxr_platform.registry.bundle import Preprocessing
from cxr_platform.serving import dicom_process as module
from cxr_platform.serving.dicom_process import (
    LENGTHS,
    MAX_JSON_BYTES,
    READY,
    Decoded,
    Request,
    answer_message,
    read_message,
    write_message,
)
from cxr_platform.serving.screener import prepare_image
from tests.conftest import REPOSITORY
from tests.intake.files import dicom
from tests.serving.builders import image

REQUEST = Request(
    preprocessing=Preprocessing(decoding=DecodingConfig(), quality=QualityConfig(), frontal_only=True, input_size=32),
    with_source=False,
)


def written(*messages: tuple[bytes, bytes]) -> bytes:
    stream = io.BytesIO()
    for header, content in messages:
        write_message(stream, header, content)
    return stream.getvalue()


def test_messages_are_read_as_they_were_written() -> None:
    messages = [(b"{}", b"pixels"), (b"{}", b"")]
    stream = io.BytesIO(written(*messages))
    assert [read_message(stream) for _ in messages] == messages
    with pytest.raises(EOFError):
        read_message(stream)


def test_a_message_that_is_cut_off_or_has_too_much_json_is_none() -> None:
    whole = written((b"{}", b"pixels"))
    for size in range(len(whole)):
        with pytest.raises(EOFError):
            read_message(io.BytesIO(whole[:size]))
    with pytest.raises(EOFError):
        read_message(io.BytesIO(LENGTHS.pack(MAX_JSON_BYTES + 1, 0) + bytes(MAX_JSON_BYTES + 1)))


def test_an_image_is_answered_with_its_pixels_and_a_refused_one_with_the_reason() -> None:
    data = dicom(image(0))
    answer, pixels = answer_message(data, REQUEST)
    expected = prepare_image(data, REQUEST.preprocessing, False)
    decoded = Decoded.model_validate_json(answer)
    assert (decoded.refused, decoded.error, decoded.source) == (None, None, None)
    assert (decoded.brightness, decoded.contrast) == (expected.brightness, expected.contrast)
    assert pixels == expected.letterboxed.tobytes() + expected.image.tobytes()
    refused, nothing = answer_message(data[:2000], REQUEST)
    assert (json.loads(refused), nothing) == ({"refused": "undecodable"}, b"")


def test_an_exception_of_this_program_is_answered_with_its_type_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise KeyError("Doe^Jane")

    monkeypatch.setattr(module, "prepare_image", broken)
    assert answer_message(b"data", REQUEST) == (b'{"error": "KeyError"}', b"")


def test_the_program_answers_in_order_until_its_input_ends() -> None:
    request = REQUEST.model_dump_json().encode()
    files = [dicom(image(0)), b"no DICOM", dicom(image(1))]
    done = subprocess.run(
        [sys.executable, "-m", module.__name__],
        cwd=REPOSITORY,
        input=written(*((request, file) for file in files)),
        capture_output=True,
        timeout=120,
        check=True,
    )
    line, _, answers = done.stdout.partition(b"\n")
    assert line.startswith(READY)
    stream = io.BytesIO(answers)
    for file in files:
        answer, pixels = read_message(stream)
        expected, of_expected = answer_message(file, REQUEST)
        assert Decoded.model_validate_json(answer).refused == Decoded.model_validate_json(expected).refused
        assert np.array_equal(np.frombuffer(pixels, np.uint8), np.frombuffer(of_expected, np.uint8))
    with pytest.raises(EOFError):
        read_message(stream)

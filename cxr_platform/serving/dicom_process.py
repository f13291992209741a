"""The program of the process beside each replica that decodes DICOM (`dicom_decoder`), and the messages of both.

A message is JSON and bytes. The program confines itself before it reads the first one, and answers in the order of the
requests until its standard input ends.
"""

import json
import os
import struct
import sys
import tempfile
from collections.abc import Mapping
from typing import IO, Annotated, Any

from pydantic import Field

from cxr_platform.errors import ImageRefused
from cxr_platform.intake.dicom_source import DicomSource
from cxr_platform.registry.bundle import Preprocessing
from cxr_platform.serving.confinement import allow_seconds, confine
from cxr_platform.serving.screener import FINDINGS, prepare_image
from cxr_platform.validation import Record

MEMORY_BYTES = 3 * 2**30
"""Private memory of the process: three times what an image of 50 million pixels needs."""

CPU_SECONDS = 30
"""Processor time per image, the import of TensorFlow for JPEG of 12 bits included."""

NO_FOLDER = "/nonexistent"
"""The home and the temporary folder of a process that cannot write."""

LENGTHS = struct.Struct(">II")
"""Lengths of the two parts of a message, which follow: JSON and bytes."""

MAX_JSON_BYTES = 2**16
READY = b"ready, with Landlock "
"""Beginning of the first line that the process writes; the version of Landlock in force follows, 0 for none."""

MEMORY_CODE = 12
"""Exit code of the process if Python gets no memory."""


class Request(Record):
    """The JSON of a request; the bytes are those of the image."""

    preprocessing: Preprocessing
    with_source: bool


class Decoded(Record):
    """The JSON of an answer: the reason of a refusal, the type of an exception of ours, or an image.

    The bytes are the pixels of the image: as letterboxed, and as the network gets it.
    """

    refused: str | None = None
    error: str | None = Field(None, pattern=r"^\w{1,60}$")
    container: str = "DICOM"
    width: int = Field(1, ge=1, le=2**20)
    height: int = Field(1, ge=1, le=2**20)
    brightness: float = Field(0.0, ge=0, le=1)
    contrast: float = Field(0.0, ge=0, le=1)
    padding: float = Field(0.0, ge=0, le=1)
    findings: list[tuple[str, Annotated[str, Field(max_length=100)]]] = Field(
        default_factory=list, max_length=len(FINDINGS)
    )
    seconds: float = Field(0.0, ge=0)
    source: DicomSource | None = None


def write_message(stream: IO[bytes] | None, header: bytes, content: bytes) -> None:
    """Write a message: JSON and bytes."""
    assert stream is not None
    stream.write(LENGTHS.pack(len(header), len(content)) + header)
    stream.write(content)
    stream.flush()


def read_message(stream: IO[bytes] | None) -> tuple[bytes, bytes]:
    """Return the two parts of a message; raise `EOFError` if the stream ends or is no message."""
    assert stream is not None
    lengths = stream.read(LENGTHS.size)
    if len(lengths) < LENGTHS.size:
        raise EOFError
    header, content = LENGTHS.unpack(lengths)
    if header > MAX_JSON_BYTES:
        raise EOFError
    parts = stream.read(header), stream.read(content)
    if tuple(map(len, parts)) != (header, content):
        raise EOFError
    return parts


def main() -> None:
    """Answer one message after another, until standard input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the answers
    tempfile.tempdir = NO_FOLDER  # TensorFlow asks for the folder, which Python would try to write to
    answers.write(READY + b"%d\n" % confine(MEMORY_BYTES))
    answers.flush()
    while True:
        try:
            settings, data = read_message(sys.stdin.buffer)
        except EOFError:
            return
        allow_seconds(CPU_SECONDS)
        write_message(answers, *answer_message(data, Request.model_validate_json(settings)))


def answer_message(data: bytes, request: Request) -> tuple[bytes, bytes]:
    """Return JSON and bytes of the answer to a request, whatever the image is."""
    try:
        image = prepare_image(data, request.preprocessing, request.with_source)
    except (ImageRefused, MemoryError) as error:
        if not isinstance(error, ImageRefused) or _lacks_memory(error):
            os._exit(MEMORY_CODE)  # this process may not be sound any more
        return _json({"refused": error.reason}), b""
    except RecursionError:
        return _json({"refused": "undecodable"}), b""
    except Exception as error:
        return _json({"error": type(error).__name__}), b""
    fields = {name: float(getattr(image, name)) for name in ("brightness", "contrast", "padding", "seconds")}
    findings = [(finding.code, finding.detail) for finding in image.findings]
    source = None if image.source is None else image.source.model_dump()
    sides = {"width": image.width, "height": image.height}
    return _json({**fields, **sides, "container": image.container, "findings": findings, "source": source}), (
        image.letterboxed.tobytes() + image.image.tobytes()
    )


def _lacks_memory(refused: ImageRefused) -> bool:
    """Return True if what is reported as a fault of the file is a lack of memory."""
    cause: BaseException | None = refused
    while cause is not None and not isinstance(cause, MemoryError):
        cause = cause.__cause__ or cause.__context__
    return cause is not None


def _json(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields).encode()


if __name__ == "__main__":
    main()

"""Decode DICOM in a process of its own, which a hostile file can crash, fill or occupy, but not leave.

pydicom parses in Python what anybody uploads, and native libraries decode the pixels. Each replica therefore has a
process that only does this. So there are as many as replicas, and PNG and JPEG need none. The process

- has an environment of a few harmless variables: no API keys, no token of Ray, no credentials of an object store;
- may not write, create or remove a file, start a program or use TCP, where the kernel has Landlock (Linux 5.13), and
  cannot write a file anywhere (`RLIMIT_FSIZE`);
- may use `MEMORY_BYTES`, and `CPU_SECONDS` for each image; both end it, and the next image gets a new process;
- has a low priority, and is what the kernel ends first if memory runs out.

It returns numbers as JSON and pixels as bytes, which are validated: nothing that it sends is executed. Requests beyond
`MAX_WAITING` get 429, so that a flood of DICOM occupies few places of a replica.
"""

import asyncio
import contextlib
import ctypes
import json
import math
import os
import resource
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from pydantic import Field

from cxr_platform.errors import ImageRefused
from cxr_platform.registry.bundle import Preprocessing
from cxr_platform.serving.problems import Problem
from cxr_platform.serving.screener import FINDINGS, Finding, PreparedImage, prepare_image
from cxr_platform.validation import Record

MEMORY_BYTES = 3 * 2**30
"""Private memory of the process: three times what an image of 50 million pixels needs."""

CPU_SECONDS = 30
"""Processor time per image, the import of TensorFlow for JPEG of 12 bits included."""

WALL_SECONDS = 45.0
"""Time per image, of which the process may get little on a busy machine."""

MAX_WAITING = 4
NICE = 10
LENGTHS = struct.Struct(">II")
"""Lengths of the two parts of a message, which follow: JSON and bytes."""

MAX_JSON_BYTES, READY = 2**16, b"ready\n"
PASSED_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ")
SET_VARIABLES = {
    "HOME": "/nonexistent",
    "MPLCONFIGDIR": "/tmp",  # tensorflow-io imports matplotlib, which asks for a folder that exists
    "PYTHONDONTWRITEBYTECODE": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


class _Decoded(Record):
    """The JSON of an answer: why an image is refused, or the fields of `PreparedImage` without its pixels."""

    refused: str | None = None
    container: str = "DICOM"
    brightness: float = Field(0.0, ge=0, le=1)
    contrast: float = Field(0.0, ge=0, le=1)
    padding: float = Field(0.0, ge=0, le=1)
    findings: list[tuple[str, str]] = Field(default_factory=list, max_length=len(FINDINGS))
    seconds: float = Field(0.0, ge=0)


class DicomDecoder:
    """Decodes DICOM one image at a time. The process is started for the first image and after each that ended it."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "cxr-dicom")
        self._waiting = 0
        self._process: subprocess.Popen[bytes] | None = None

    async def prepare(self, data: bytes, preprocessing: Preprocessing) -> PreparedImage:
        """Return `prepare_image` of a DICOM object.

        Raises `ImageRefused` for one that cannot be used, and `Problem`: busy if `MAX_WAITING` others wait, unavailable
        if the process cannot be started or gets no time.
        """
        if self._waiting >= MAX_WAITING:
            raise Problem("busy")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._decode, data, preprocessing)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """End the process."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._process is not None:
            _end(self._process)

    def _decode(self, data: bytes, preprocessing: Preprocessing) -> PreparedImage:
        if self._process is not None and self._process.poll() is not None:
            _end(self._process)
            self._process = None
        process = self._process = self._process or _start()
        late = threading.Event()
        try:
            with _killed_after(process, WALL_SECONDS, late):
                _write(process.stdin, preprocessing.model_dump_json().encode(), data)
                answer, pixels = _read(process.stdout)
            return _prepared(answer, pixels, preprocessing)
        except (EOFError, OSError, ValueError):  # it has ended, or it is no longer our program that answers
            self._process, code = None, _end(process)
            if late.is_set():
                raise Problem("unavailable") from None
            raise ImageRefused("undecodable", f"the decoder ended with {code}") from None


def _start() -> "subprocess.Popen[bytes]":
    """Return a new process that waits for images; raise `Problem` if it does not start."""
    variables = {name: os.environ[name] for name in PASSED_VARIABLES if name in os.environ}
    variables |= {**SET_VARIABLES, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, filter(None, sys.path)))}
    process = subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # libraries quote what they read
        env=variables,
        cwd="/",
        start_new_session=True,
    )
    assert process.stdout is not None
    with _killed_after(process, WALL_SECONDS, threading.Event()):
        if process.stdout.readline() != READY:
            _end(process)
            raise Problem("unavailable")
    return process


def _end(process: "subprocess.Popen[bytes]") -> int:
    """End the process and return its exit code, minus the signal that ended it."""
    process.kill()
    for stream in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):  # what could not be written is written once more on closing
            if stream is not None:
                stream.close()
    return process.wait()


@contextmanager
def _killed_after(process: "subprocess.Popen[bytes]", seconds: float, late: threading.Event) -> Iterator[None]:
    """Kill the process and set `late` if the block takes longer: reading from and writing to it then end."""

    def kill() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(seconds, kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _prepared(answer: bytes, pixels: bytes, preprocessing: Preprocessing) -> PreparedImage:
    """Return the image of an answer; raise `ImageRefused` for a refusal, `ValueError` for another content."""
    decoded = _Decoded.model_validate_json(answer)
    if decoded.refused is not None:
        raise ImageRefused(decoded.refused, "")
    sides = preprocessing.decoding.image_size, preprocessing.input_size
    if len(pixels) != sum(side**2 for side in sides) or any(code not in FINDINGS for code, _ in decoded.findings):
        raise ValueError("another size")
    letterboxed, image = np.split(np.frombuffer(pixels, np.uint8), [sides[0] ** 2])
    return PreparedImage(
        letterboxed=letterboxed.reshape(sides[0], sides[0]),
        image=image.reshape(sides[1], sides[1]),
        container=decoded.container,
        brightness=decoded.brightness,
        contrast=decoded.contrast,
        padding=decoded.padding,
        findings=tuple(Finding(code, detail) for code, detail in decoded.findings),
        seconds=decoded.seconds,
    )


def _write(stream: IO[bytes] | None, header: bytes, content: bytes) -> None:
    assert stream is not None
    stream.write(LENGTHS.pack(len(header), len(content)) + header)
    stream.write(content)
    stream.flush()


def _read(stream: IO[bytes] | None) -> tuple[bytes, bytes]:
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
    _confine()
    answers.write(READY)
    answers.flush()
    while True:
        try:
            settings, data = _read(sys.stdin.buffer)
        except EOFError:
            return
        _allow_seconds(CPU_SECONDS)
        _write(answers, *_answer(data, Preprocessing.model_validate_json(settings)))


def _answer(data: bytes, preprocessing: Preprocessing) -> tuple[bytes, bytes]:
    try:
        image = prepare_image(data, preprocessing)
    except ImageRefused as refused:
        return _json({"refused": refused.reason}), b""
    fields = {name: float(getattr(image, name)) for name in ("brightness", "contrast", "padding", "seconds")}
    findings = [(finding.code, finding.detail) for finding in image.findings]
    return _json({**fields, "container": image.container, "findings": findings}), (
        image.letterboxed.tobytes() + image.image.tobytes()
    )


def _json(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields).encode()


def _allow_seconds(seconds: int) -> None:
    """Let the process use some more processor time; above it the kernel ends the process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    until = math.ceil(usage.ru_utime + usage.ru_stime) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (until, resource.RLIM_INFINITY))


def _confine() -> None:
    os.nice(NICE)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    tempfile.tempdir = SET_VARIABLES["HOME"]  # TensorFlow asks for the folder, which Python would try to write to
    for limit in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(limit, (0, 0))
    if sys.platform == "linux":
        _forbid_changes()


def _forbid_changes() -> None:
    """Forbid this process to change files, to start programs and to use TCP, as far as the kernel has Landlock.

    The constants are those of linux/landlock.h and linux/prctl.h; the system calls have the same numbers on all
    architectures. https://docs.kernel.org/userspace-api/landlock.html
    """
    create_ruleset, restrict_self, version_flag, no_new_privileges = 444, 446, 1, 38
    libc = ctypes.CDLL(None)
    version = libc.syscall(create_ruleset, None, 0, version_flag)
    if version < 1:
        return
    execute, write_file, remove, make = 1 << 0, 1 << 1, 0b11 << 4, 0b111_1111 << 6
    rights = struct.pack("=Q", execute | write_file | remove | make)
    rights += struct.pack("=Q", 0b11) if version >= 4 else b""  # bind and connect
    rules = libc.syscall(create_ruleset, rights, len(rights), 0)
    if rules >= 0 and libc.prctl(no_new_privileges, 1, 0, 0, 0) == 0:
        libc.syscall(restrict_self, rules, 0)
        os.close(rules)


if __name__ == "__main__":
    main()

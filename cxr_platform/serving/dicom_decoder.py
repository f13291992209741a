"""Decode DICOM in a process of its own, which a hostile file can crash, fill or occupy, but not leave.

pydicom parses in Python what anybody uploads, and native libraries decode the pixels. Each replica therefore has a
process that only does this. So there are as many as replicas, and PNG and JPEG need none. The process

- has an environment of a few harmless variables: no API keys, no token of Ray, no credentials of an object store;
- may use limited memory, and limited processor time for each image (`dicom_process`); both limits end it, and the next
  image gets a new process;
- has a low priority, is what the kernel ends first if memory runs out, and cannot write a file;
- may not read, change or start what it does not need, nor use TCP, as far as the kernel has Landlock (`confinement`);
  what is not in force is logged when it starts.

It returns numbers and, for a structured report, patient and study as JSON, and pixels as bytes, which are validated:
nothing that it sends is executed. Requests beyond `MAX_WAITING` get 429, so that a flood of DICOM occupies few places
of a replica.
"""

import asyncio
import contextlib
import logging
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np

from cxr_platform.errors import ImageRefused
from cxr_platform.registry.bundle import Preprocessing
from cxr_platform.serving import dicom_process
from cxr_platform.serving.dicom_process import (
    MEMORY_CODE,
    NO_FOLDER,
    READY,
    Decoded,
    Request,
    read_message,
    write_message,
)
from cxr_platform.serving.metrics import ServingMetrics
from cxr_platform.serving.problems import Problem
from cxr_platform.serving.screener import FINDINGS, Finding, PreparedImage

WALL_SECONDS = 45.0
"""Time per image, of which the process may get little on a busy machine."""

MAX_WAITING = 4
UNCONFINED = {
    False: "The kernel has no Landlock: the DICOM process may read the files of this user, start programs and use TCP",
    True: "The kernel has an old Landlock: the DICOM process may use TCP (below 4) or abstract Unix sockets (below 6)",
}
ALL_OF_LANDLOCK = 6
PASSED_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ")
SET_VARIABLES = {
    "HOME": NO_FOLDER,
    "MPLCONFIGDIR": "/tmp",  # tensorflow-io imports matplotlib, which asks for a folder that exists
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONSAFEPATH": "1",  # no module from the folder in which it is started
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}

log = logging.getLogger(__name__)


class DicomDecoder:
    """Decodes DICOM one image at a time. The process is started for the first image and after each that ended it."""

    def __init__(self, metrics: ServingMetrics | None = None) -> None:
        """`metrics` counts why the process ended."""
        self._metrics = metrics or ServingMetrics()
        self._pool = ThreadPoolExecutor(1, "cxr-dicom")
        self._waiting = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._warned = False

    async def prepare(self, data: bytes, preprocessing: Preprocessing, with_source: bool = False) -> PreparedImage:
        """Return `prepare_image` of a DICOM object, and with `with_source` its patient and study too.

        Raises `ImageRefused` for one that cannot be used, and `Problem`: busy if `MAX_WAITING` others wait, unavailable
        if the process cannot be started or gets no time, internal-error if it reports an exception of this program.
        """
        if self._waiting >= MAX_WAITING:
            raise Problem("busy")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(
                self._pool, self._decode, data, Request(preprocessing=preprocessing, with_source=with_source)
            )
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """End the process."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._process is not None:
            _end(self._process)

    def _decode(self, data: bytes, request: Request) -> PreparedImage:
        if self._process is not None and self._process.poll() is not None:
            self._note_end(self._process)
        process = self._process = self._process or self._start()
        late, began = threading.Event(), time.monotonic()
        try:
            with _killed_after(process, WALL_SECONDS, late):
                write_message(process.stdin, request.model_dump_json().encode(), data)
                answer, pixels = read_message(process.stdout)
            return _prepared(answer, pixels, request)
        except (EOFError, OSError, ValueError):  # it has ended, or it is no longer our program that answers
            code = self._note_end(process, time.monotonic() - began, late.is_set())
            if late.is_set():
                raise Problem("unavailable") from None
            raise ImageRefused("undecodable", f"the decoder ended with {code}") from None

    def _note_end(self, process: "subprocess.Popen[bytes]", seconds: float = 0.0, late: bool = False) -> int:
        """End the process, log and count why, and return its exit code; the next image starts another one."""
        self._process, code = None, _end(process)
        cause = "late" if late else _cause(code)
        log.warning("The DICOM process ended with %d (%s) after %.1f s with an image", code, cause, seconds)
        self._metrics.count_dicom_end(cause)
        return code

    def _start(self) -> "subprocess.Popen[bytes]":
        try:
            process, landlock = _start_process()
        except OSError as error:
            log.error("The DICOM process does not start: %s", error.strerror or type(error).__name__)
            self._metrics.count_dicom_end("start")
            raise Problem("unavailable") from None
        if landlock < ALL_OF_LANDLOCK and not self._warned:
            self._warned = True
            log.warning("%s (Landlock %d of %d)", UNCONFINED[landlock >= 1], landlock, ALL_OF_LANDLOCK)
        return process


def _start_process() -> "tuple[subprocess.Popen[bytes], int]":
    """Return a new process that waits for images and its version of Landlock; raise `OSError` if it does not start."""
    variables = {name: os.environ[name] for name in PASSED_VARIABLES if name in os.environ}
    variables |= {**SET_VARIABLES, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, filter(None, sys.path)))}
    process = subprocess.Popen(
        [sys.executable, "-m", dicom_process.__name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # libraries quote what they read
        env=variables,
        cwd="/",
        start_new_session=True,
    )
    assert process.stdout is not None
    with _killed_after(process, WALL_SECONDS, threading.Event()):
        line = process.stdout.readline(100)
    match = re.fullmatch(re.escape(READY) + rb"(\d{1,3})\n", line)
    if match is None:
        code = _end(process)
        raise OSError(0, f"it ended with {code}; see what {sys.executable} -m {dicom_process.__name__} prints")
    return process, int(match[1])


def _cause(code: int) -> str:
    """Return why a process has ended with `code`: a label of `names.DICOM_ENDS`."""
    causes = {-signal.SIGXCPU: "time", -signal.SIGKILL: "killed", MEMORY_CODE: "memory"}
    return causes.get(code, "crash" if code < 0 else "exit")


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


def _prepared(answer: bytes, pixels: bytes, request: Request) -> PreparedImage:
    """Return the image of an answer; raise `ImageRefused` for a refusal, `ValueError` for another content."""
    decoded = Decoded.model_validate_json(answer)
    if decoded.error is not None:
        log.error("The DICOM process reports an internal error: %s", decoded.error)
        raise Problem("internal-error")
    if decoded.refused is not None:
        raise ImageRefused(decoded.refused, "")
    side, shape = request.preprocessing.decoding.image_size, request.preprocessing.input_shape
    if len(pixels) != side**2 + math.prod(shape) or any(code not in FINDINGS for code, _ in decoded.findings):
        raise ValueError("another size")
    if (decoded.source is None) == request.with_source:
        raise ValueError("a source that was not asked for, or none")
    letterboxed, image = np.split(np.frombuffer(pixels, np.uint8), [side**2])
    return PreparedImage(
        letterboxed=letterboxed.reshape(side, side),
        width=decoded.width,
        height=decoded.height,
        image=image.reshape(shape),
        container=decoded.container,
        brightness=decoded.brightness,
        contrast=decoded.contrast,
        padding=decoded.padding,
        findings=tuple(Finding(code, detail) for code, detail in decoded.findings),
        seconds=decoded.seconds,
        source=decoded.source,
    )

"""The servers that `serving` compares, each in a process of its own, and screening without a server."""

import contextlib
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pipelines
from cxr_platform.errors import ServingError
from cxr_platform.registry.bundle import read_bundle

if TYPE_CHECKING:
    from cxr_platform.serving.screener import Screener

START_SECONDS = 300.0
STOP_SECONDS = 30.0
PEERS = {"BentoML": "pipelines.benchmarks.peer_bentoml", "LitServe": "pipelines.benchmarks.peer_litserve"}
SAME_VERSIONS = ("numpy", "onnxruntime", "opencv-python-headless", "pillow")
"""Libraries that decode and infer."""

FURTHER_PACKAGES = ("pydicom", "pydantic", "python-multipart")
"""What this package needs besides to decode and infer."""

VERSIONS_CODE = """
import json, sys
from importlib.metadata import PackageNotFoundError, version
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        pass
print(json.dumps(found))
"""


@contextmanager
def running_server(command: Sequence[str]) -> Iterator[int]:
    """Start a server with `command` and `--port`, yield the port once it is ready, and stop the server at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    paths = [str(Path(pipelines.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    process = subprocess.Popen(
        [*command, "--port", str(port)], stdout=subprocess.DEVNULL, env=environment, start_new_session=True
    )
    try:
        _wait_until_ready(process, port)
        yield port
    finally:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):  # workers that a server has left behind
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@dataclass(frozen=True)
class Screened:
    """Images per second without a server; processor milliseconds per image of decoding and of the network.

    Decoding includes all checks, the network calibration and the distance from the training images.
    """

    rate: float
    decode_ms: float
    network_ms: float


@contextmanager
def no_http(folder: Path, images: Sequence[bytes]) -> Iterator[Callable[[float], Screened]]:
    """Yield a function that screens `images` for some seconds in one process per core."""
    cores = os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        pools = [
            stack.enter_context(ProcessPoolExecutor(1, context, _open_screener, (folder, images))) for _ in range(cores)
        ]

        def screen(seconds: float) -> Screened:
            running = [pool.submit(_screen_for, seconds) for pool in pools]
            results = [each.result() for each in running]
            count, decoding, network, _ = (sum(parts) for parts in zip(*results, strict=True))
            took = max(result[3] for result in results)
            return Screened(count / took, 1000 * decoding / count, 1000 * network / count)

        screen(0.1)  # starts the processes
        yield screen


def peer_versions(python: Path) -> dict[str, str]:
    """Return the versions of BentoML and LitServe of an interpreter.

    Raises `ServingError` if it lacks them, or decodes or infers with other versions than this one.
    """
    names = ("bentoml", "litserve", *SAME_VERSIONS, *FURTHER_PACKAGES)
    try:
        done = subprocess.run([python, "-c", VERSIONS_CODE, *names], stdout=subprocess.PIPE, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        raise ServingError(
            f"Expected a Python interpreter at {python}.", received=str(getattr(error, "strerror", None) or error)
        ) from error
    found: dict[str, str] = json.loads(done.stdout)
    wanted = {name: version(name) for name in SAME_VERSIONS}
    other = [name for name in names if name not in found or found[name] != wanted.get(name, found[name])]
    if other:
        packages = " ".join([*("bentoml", "litserve", *FURTHER_PACKAGES), *(f"{n}=={v}" for n, v in wanted.items())])
        raise ServingError(
            f"Expected {python} to have BentoML, LitServe and the versions with which this server decodes and infers.",
            received=", ".join(f"{name} {found.get(name, 'missing')}" for name in other),
            advice=f"Run: {python} -m pip install {packages}",
        )
    return {name: found[name] for name in ("bentoml", "litserve")}


def _wait_until_ready(process: "subprocess.Popen[bytes]", port: int) -> None:
    ends = time.monotonic() + START_SECONDS
    while time.monotonic() < ends and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    ended = process.poll()
    raise ServingError(
        f"Expected a server to be ready on port {port} within {START_SECONDS:.0f} s.",
        received="none" if ended is None else f"exit code {ended}",
    )


_screener: "Screener"
_images: Sequence[bytes]


def _open_screener(folder: Path, images: Sequence[bytes]) -> None:
    """Load the network in a process of `no_http`."""
    global _screener, _images
    from cxr_platform.serving.screener import Screener

    _screener, _images = Screener(folder, read_bundle(folder), threads=1), images
    _screener.warm_up()


def _screen_for(seconds: float) -> tuple[int, float, float, float]:
    """Return how many images a replica's functions screen in about `seconds`, at least one, and what they take.

    That is what decoding and the network take, in processor seconds, which other work on the machine changes least,
    and the whole in seconds.
    """
    began, screened, decoding, network = time.monotonic(), 0, 0.0, 0.0
    while not screened or time.monotonic() - began < seconds:
        begun = time.process_time()
        prepared = _screener.prepare(_images[screened % len(_images)])
        decoded = time.process_time()
        _screener.screen([prepared])
        decoding, network = decoding + decoded - begun, network + time.process_time() - decoded
        screened += 1
    return screened, decoding, network, time.monotonic() - began

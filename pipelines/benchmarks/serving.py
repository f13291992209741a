"""Measure how many images per second the server screens, against simpler ways to do it on the same cores.

- *Bare ONNX Runtime*: the session on decoded images, in the fastest of several ways.
- *Decoding and ONNX Runtime, no HTTP*: the replicas' own functions, one process per core. A server that cost nothing
  itself would reach it.
- *Plain FastAPI*: `plain_server`.

All run in one go, the clients included.
"""

import argparse
import contextlib
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cxr_platform.errors import ServingError
from cxr_platform.registry.bundle import IMAGES as GRAPH_IMAGES
from cxr_platform.registry.bundle import ONNX
from cxr_platform.registry.store import Registry
from pipelines.benchmarks.load_clients import NOT_ANSWERED, Load, run_load
from pipelines.options import REGISTRY

START_SECONDS = 180.0
STOP_SECONDS = 60.0
BARE_SECONDS = 10.0
SUFFIXES = (".png", ".jpg", ".jpeg")
IMAGES = 64


@dataclass(frozen=True)
class ServingRequest:
    """Registry, folder of images, clients, and seconds of load; `no_plain` leaves out the plain application."""

    registry: Path
    data: Path
    clients: int
    seconds: float
    no_plain: bool


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `cxr benchmark serving`."""
    parser.add_argument("--registry", type=Path, default=REGISTRY, help="folder of the registry (default: registry)")
    parser.add_argument("--data", type=Path, required=True, help="folder of PNG and JPEG images")
    parser.add_argument("--clients", type=int, default=32, help="number of clients (default: 32)")
    parser.add_argument("--seconds", type=float, default=60.0, help="duration of the load (default: 60)")
    parser.add_argument("--no-plain", action="store_true", help="leave out the plain application")


def run(request: ServingRequest) -> int:
    """Print images per second, latencies and ratios; return 0, or 1 if a request was lost."""
    images = _images(request.data)
    folder, bundle = Registry(request.registry).open()
    size = bundle.preprocessing.input_size
    print(f"{bundle.version} ({bundle.strategy}, {size} px, alpha {bundle.model.alpha}), {os.cpu_count()} cores,")
    print(f"{len(images)} images, {request.clients} clients for {request.seconds:.0f} s")
    bare = _bare(folder / ONNX, size)
    print(f"bare ONNX Runtime {bare:8.1f} images/s")
    no_http = _no_http(request.registry, images)
    print(f"decoding and ONNX Runtime, no HTTP {no_http:8.1f} images/s, {no_http / bare:.2f} of bare ONNX Runtime")
    # Port 0 for metrics: another server may be running.
    command = ["pipelines.serve", "--registry", str(request.registry.absolute()), "--metrics-port", "0"]
    server = _load_on(command, images, request)
    _print_load("this server", server, bare)
    print(f"this server / decoding and ONNX Runtime {server.rate / no_http:6.2f}")
    lost = sum(n for status, n in server.statuses.items() if status == NOT_ANSWERED or status >= 500)
    print(f"refused for now (429): {server.statuses.get(429, 0)}; lost (no answer, or 5xx): {lost}")
    if not request.no_plain:
        plain = _load_on(["pipelines.benchmarks.plain_server", str(folder)], images, request)
        _print_load("plain FastAPI, model.predict", plain, bare)
        print(f"this server / plain application {server.rate / plain.rate:6.1f}")
    return 1 if lost else 0


def _print_load(name: str, load: Load, bare: float) -> None:
    statuses = ", ".join(f"{status}: {n}" for status, n in sorted(load.statuses.items()))
    print(
        f"{name} {load.rate:8.1f} images/s, {load.rate / bare:.2f} of bare ONNX Runtime, "
        f"p50 {1000 * load.latency(50):.0f} ms, p99 {1000 * load.latency(99):.0f} ms, answers {statuses}"
    )


def _images(folder: Path) -> list[bytes]:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)[:IMAGES]
    if not files:
        raise ServingError(
            f"Expected PNG or JPEG images below {folder}.", received="none", advice="Name another folder."
        )
    return [path.read_bytes() for path in files]


def _bare(model: Path, size: int) -> float:
    """Return images per second, the best of: one image on all cores; one image per core; eight images on all cores."""
    cores = os.cpu_count() or 1
    return max(_session_rate(model, size, *way) for way in ((1, cores, 1), (cores, 1, 1), (1, cores, 8)))


def _session_rate(model: Path, size: int, sessions: int, threads: int, batch: int) -> float:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    pool_of_sessions = [onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"]) for _ in range(sessions)]
    image = np.random.default_rng(0).integers(0, 256, (batch, size, size), dtype=np.uint8)

    def count(session: Any) -> int:
        ends, images = time.monotonic() + BARE_SECONDS, 0
        while time.monotonic() < ends:
            session.run(None, {GRAPH_IMAGES: image})
            images += batch
        return images

    with ThreadPoolExecutor(sessions) as pool:
        return sum(pool.map(count, pool_of_sessions)) / BARE_SECONDS


def _no_http(registry: Path, images: Sequence[bytes]) -> float:
    """Return images per second of one process per core, each of which screens one image after the other."""
    cores = os.cpu_count() or 1
    with ProcessPoolExecutor(cores, multiprocessing.get_context("spawn")) as pool:
        counts = pool.map(_count_screened, [registry] * cores, [images] * cores, [BARE_SECONDS] * cores)
        return sum(counts) / BARE_SECONDS


def _count_screened(registry: Path, images: Sequence[bytes], seconds: float) -> int:
    """Return how many images a replica's functions decode, measure and infer within `seconds`."""
    from cxr_platform.serving.screener import Screener

    screener = Screener(*Registry(registry).open(), threads=1)
    screener.warm_up()
    ends, screened = time.monotonic() + seconds, 0
    while time.monotonic() < ends:
        screener.screen([screener.prepare(images[screened % len(images)])])
        screened += 1
    return screened


def _load_on(command: Sequence[str], images: Sequence[bytes], request: ServingRequest) -> Load:
    """Start a server with `python -m command`, and return the answers to the load on it."""
    port = _free_port()
    with _process([*command, "--port", str(port)]) as process:
        _wait_until_ready(process, port)
        return run_load(port, "/v1/screen", images, clients=request.clients, seconds=request.seconds)


@contextlib.contextmanager
def _process(command: Sequence[str]) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(process: "subprocess.Popen[bytes]", port: int) -> None:
    ends = time.monotonic() + START_SECONDS
    while time.monotonic() < ends and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise ServingError(f"Expected a server to be ready on port {port} within {START_SECONDS:.0f} s.", received="none")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])

"""How fast the server screens: beside bare ONNX Runtime, and beside a plain FastAPI application that calls Keras.

    python -m pipelines.benchmark_serving --registry registry --data FOLDER

Everything runs in one go on the same cores, the clients included. Bare ONNX Runtime is the fastest of several ways to
call the session on images that are already decoded. "Decoding and ONNX Runtime" is what the replicas do with an image, by
their own functions, in a process a core and without HTTP: what a server could reach that cost nothing itself. The plain
application is what `plain_server` shows.
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
from pathlib import Path
from typing import Any

from cxr_platform.errors import ServingError
from cxr_platform.registry.bundle import IMAGES as GRAPH_IMAGES
from cxr_platform.registry.bundle import ONNX
from pipelines.command import run_command
from pipelines.load_clients import Load, run_load

START_SECONDS = 180.0
STOP_SECONDS = 60.0
BARE_SECONDS = 10.0
SUFFIXES = (".png", ".jpg", ".jpeg")
IMAGES = 64


def main(argv: Sequence[str] | None = None) -> int:
    """Print images a second, latencies and ratios of the three; returns 0, or 1 where a request was lost."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.benchmark_serving", description=__doc__.split("\n")[0])
    parser.add_argument("--registry", type=Path, default=Path("registry"))
    parser.add_argument("--data", type=Path, required=True, help="a folder of PNG and JPEG images")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--no-plain", action="store_true", help="leave out the plain application")
    arguments = parser.parse_args(argv)
    return run_command(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    from cxr_platform.registry.store import Registry

    images = _images(arguments.data)
    folder, bundle = Registry(arguments.registry).open()
    size = bundle.preprocessing.input_size
    print(f"{bundle.version} ({bundle.strategy}, {size} px, alpha {bundle.model.alpha}), {os.cpu_count()} cores,")
    print(f"{len(images)} images, {arguments.clients} clients for {arguments.seconds:.0f} s")
    bare = _bare(folder / ONNX, size)
    print(f"bare ONNX Runtime {bare:8.1f} images/s")
    no_http = _no_http(arguments.registry, images)
    print(f"decoding and ONNX Runtime, no HTTP {no_http:8.1f} images/s, {no_http / bare:.2f} of bare ONNX Runtime")
    command = [
        "-m",
        "pipelines.serve",
        "--registry",
        str(arguments.registry.absolute()),
        "--metrics-port",
        "0",
    ]  # beside a server that is up
    ours = _served(command, images, arguments)
    _tell("this server", ours, bare)
    print(f"this server / decoding and ONNX Runtime {ours.rate / no_http:6.2f}")
    lost = _tell_unanswered(ours)
    if not arguments.no_plain:
        plain = _served(["-m", "pipelines.plain_server", "--bundle", str(folder)], images, arguments)
        _tell("plain FastAPI, model.predict", plain, bare)
        print(f"this server / plain application {ours.rate / plain.rate:6.1f}")
    return 1 if lost else 0


def _tell(name: str, load: Load, bare: float) -> None:
    statuses = ", ".join(f"{status}: {n}" for status, n in sorted(load.statuses.items()))
    print(
        f"{name} {load.rate:8.1f} images/s, {load.rate / bare:.2f} of bare ONNX Runtime, "
        f"p50 {1000 * load.latency(50):.0f} ms, p99 {1000 * load.latency(99):.0f} ms, answers {statuses}"
    )


def _tell_unanswered(load: Load) -> int:
    """Say how many requests were refused, which is an answer (the client comes back), and lost; returns the lost."""
    lost = sum(n for status, n in load.statuses.items() if status == 0 or status >= 500)
    print(f"refused for now (429): {load.statuses.get(429, 0)}; lost (no answer, or 5xx): {lost}")
    return lost


def _images(folder: Path) -> list[bytes]:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)[:IMAGES]
    if not files:
        raise ServingError(
            f"Expected PNG or JPEG images below {folder}.", received="none", advice="Name another folder."
        )
    return [path.read_bytes() for path in files]


def _bare(model: Path, size: int) -> float:
    """Images a second, the best of: one image with all cores; one image a core; eight images with all cores."""
    cores = os.cpu_count() or 1
    return max(_sessions(model, size, *way) for way in ((1, cores, 1), (cores, 1, 1), (1, cores, 8)))


def _sessions(model: Path, size: int, sessions: int, threads: int, batch: int) -> float:
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    made = [onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"]) for _ in range(sessions)]
    image = np.random.default_rng(0).integers(0, 256, (batch, size, size), dtype=np.uint8)

    def count(session: Any) -> int:
        ends, images = time.monotonic() + BARE_SECONDS, 0
        while time.monotonic() < ends:
            session.run(None, {GRAPH_IMAGES: image})
            images += batch
        return images

    with ThreadPoolExecutor(sessions) as pool:
        return sum(pool.map(count, made)) / BARE_SECONDS


def _no_http(registry: Path, images: Sequence[bytes]) -> float:
    """Images a second of a process a core, each of which screens one image after the other."""
    cores = os.cpu_count() or 1
    with ProcessPoolExecutor(cores, multiprocessing.get_context("spawn")) as pool:
        return sum(pool.map(_screened, *([each] * cores for each in (registry, images, BARE_SECONDS)))) / BARE_SECONDS


def _screened(registry: Path, images: Sequence[bytes], seconds: float) -> int:
    """How many images are decoded, measured and inferred within `seconds` by the functions of a replica."""
    from cxr_platform.registry.store import Registry
    from cxr_platform.serving.screener import Screener

    screener = Screener(*Registry(registry).open(), threads=1)
    screener.warm_up()
    ends, screened = time.monotonic() + seconds, 0
    while time.monotonic() < ends:
        screener.screen([screener.prepare(images[screened % len(images)])])
        screened += 1
    return screened


def _served(command: Sequence[str], images: Sequence[bytes], arguments: argparse.Namespace) -> Load:
    port = _free_port()
    with _process([*command, "--port", str(port)]) as process:
        _wait(process, port)
        return run_load(port, "/v1/screen", images, clients=arguments.clients, seconds=arguments.seconds)


@contextlib.contextmanager
def _process(command: Sequence[str]) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", port: int) -> None:
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


if __name__ == "__main__":
    raise SystemExit(main())

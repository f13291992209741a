"""Measure how many images per second the server screens, against other ways to do it on the same cores.

- *Decoding and ONNX Runtime, no HTTP*: the replicas' own functions, one process per core. A server that cost nothing
  itself would reach it. Its milliseconds of decoding and network bound what a faster network, such as one in int8 or
  bfloat16, can gain.
- *Plain FastAPI*: `plain_server`.
- *BentoML* and *LitServe*, where `--peers` names an interpreter that has them: `peer_bentoml` and `peer_litserve`, with
  the same functions, libraries and ONNX file, one worker per core.

All are started first. Then they take turns in several rounds, the clients on the same cores included, so that whatever
else the machine does slows all of them; figures are medians of the rounds.
"""

import argparse
import io
import os
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cxr_platform.errors import ServingError
from cxr_platform.labels import CLASSES
from cxr_platform.registry.store import Registry
from pipelines.benchmarks import write_result
from pipelines.benchmarks.gpu import numbers
from pipelines.benchmarks.load_clients import NOT_ANSWERED, Load, run_load
from pipelines.benchmarks.screening_servers import PEERS, Screened, no_http, peer_versions, running_server
from pipelines.options import REGISTRY

SUFFIXES = (".png", ".jpg", ".jpeg")
IMAGES = 24
HEIGHT = 320
SEED = 3_200
DRAWN, FILES = f"{HEIGHT} px", "files"
WARM_UP_SECONDS = 3.0
OURS, NO_HTTP, PLAIN = "this server", "decoding and ONNX Runtime, no HTTP", "plain FastAPI, model.predict"
SERVERS = ("ray", "fastapi", "uvicorn", "onnxruntime", "opencv-python-headless")
"""Packages whose versions the result states besides those of `package_versions`."""

HEADER = f"{'images/s':>9} {'a core':>7} {'p50 ms':>7} {'p99 ms':>7}  answers"


@dataclass(frozen=True)
class ServingRequest:
    """Registry, folder of files (`None`: drawn images alone), numbers of clients, seconds and rounds of load.

    `compared` is the number of clients at which the server is compared with others.
    """

    registry: Path
    files: Path | None
    clients: tuple[int, ...]
    compared: int
    seconds: float
    rounds: int
    peers: Path | None
    no_plain: bool
    json: Path | None


@dataclass(frozen=True)
class Rates:
    """Images per second of each round; what clients of a server got in all rounds, `None` without a server.

    `stages` are the milliseconds of an image without a server, medians of the rounds.
    """

    rounds: Sequence[float]
    load: Load | None = None
    stages: Mapping[str, float] | None = None

    @property
    def rate(self) -> float:
        """Images per second: the median of the rounds."""
        return statistics.median(self.rounds)

    @property
    def fields(self) -> dict[str, Any]:
        """The values for the result."""
        fields: dict[str, Any] = {"images_per_second": self.rate, "a_core": self.rate / cores(), "rounds": self.rounds}
        fields |= self.stages or {}
        if self.load is not None:
            fields |= {f"p{part}_ms": 1000 * self.load.latency(part) for part in (50, 99)}
            fields["statuses"] = {str(status): n for status, n in sorted(self.load.statuses.items())}
        return fields

    @property
    def lost(self) -> int:
        """Number of requests without an answer, or with 5xx."""
        statuses = self.load.statuses if self.load is not None else {}
        return sum(n for status, n in statuses.items() if status == NOT_ANSWERED or status >= 500)

    def __str__(self) -> str:
        if self.load is None:
            return f"{self.rate:9.1f} {self.rate / cores():7.1f}"
        times = " ".join(f"{1000 * self.load.latency(part):7.0f}" for part in (50, 99))
        statuses = ", ".join(f"{status}: {n}" for status, n in sorted(self.load.statuses.items()))
        return f"{self.rate:9.1f} {self.rate / cores():7.1f} {times}  {statuses}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `cxr benchmark serving`."""
    parser.add_argument("--registry", type=Path, default=REGISTRY, help="folder of the registry (default: registry)")
    parser.add_argument(
        "--files", type=Path, metavar="FOLDER", help=f"also send its PNG and JPEG images as they are, at most {IMAGES}"
    )
    parser.add_argument(
        "--clients",
        type=numbers,
        default=(1, 8, 32, 128),
        metavar="N,…",
        help="numbers of clients of this server (default: 1,8,32,128)",
    )
    parser.add_argument(
        "--compared", type=int, default=32, metavar="N", help="clients at which servers are compared (default: 32)"
    )
    parser.add_argument("--seconds", type=float, default=15.0, help="seconds of each load (default: 15)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the comparison (default: 3)")
    parser.add_argument(
        "--peers", type=Path, metavar="PYTHON", help="interpreter with BentoML and LitServe, to be compared with too"
    )
    parser.add_argument("--no-plain", action="store_true", help="leave out the plain application")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result with hardware and versions")


def run(request: ServingRequest) -> int:
    """Print images per second, latencies and ratios; return 0, or 1 if a request to this server was lost."""
    images = {DRAWN: drawn_images()}
    if request.files is not None:
        images[FILES] = read_images(request.files)
    peers = {} if request.peers is None else peer_versions(request.peers)
    folder, bundle = Registry(request.registry).open()
    size = f"{bundle.preprocessing.input_size} px, alpha {bundle.model.alpha}"
    print(f"{bundle.version} ({bundle.strategy}, {size}), {cores()} cores")
    with ExitStack() as stack:
        bare = stack.enter_context(no_http(folder, images[DRAWN]))
        ways: dict[str, Callable[[], Screened | Load]] = {NO_HTTP: partial(bare, request.seconds)}
        ports = {}
        for name, command in _commands(request, folder).items():
            ports[name] = stack.enter_context(running_server(command))
            ways[name] = partial(_load, ports[name], images[DRAWN], request.compared, request.seconds)
            _load(ports[name], images[DRAWN], request.compared, WARM_UP_SECONDS)
        print(
            f"\n{request.compared} clients, {DRAWN}, {request.rounds} rounds of {request.seconds:g} s\n{'':36}{HEADER}"
        )
        compared = in_turns(ways, request.rounds)
        for name, rates in compared.items():
            print(f"{name:36}{rates}")
        ratios = {name: compared[OURS].rate / rates.rate for name, rates in compared.items() if name != OURS}
        for name, ratio in ratios.items():
            print(f"this server / {name}: {ratio:.2f}")
        gain = network_gain(compared[NO_HTTP], compared[OURS])
        print(stages_text(compared[NO_HTTP].fields, gain))
        print(f"\nthis server alone\n{'images':12}{'clients':>7} {HEADER}")
        alone = []
        for kind, contents in images.items():
            for clients in request.clients:
                load = _load(ports[OURS], contents, clients, request.seconds)
                alone.append((kind, clients, Rates([load.rate], load)))
                print(f"{kind:12}{clients:7} {alone[-1][2]}")
    lost = sum(rates.lost for rates in (compared[OURS], *(rates for *_, rates in alone)))
    print(f"\nlost (no answer, or 5xx): {lost}")
    if request.json is not None:
        write_result(
            request.json,
            "serving",
            {
                "bundle": bundle.version,
                "input_size": bundle.preprocessing.input_size,
                "alpha": bundle.model.alpha,
                "cores": cores(),
                "images": {kind: _described(contents) for kind, contents in images.items()},
                "clients": request.compared,
                "seconds": request.seconds,
                "compared": {name: rates.fields for name, rates in compared.items()},
                "ratios": ratios,
                "largest_network_gain": gain,
                "alone": [{"images": kind, "clients": clients, **rates.fields} for kind, clients, rates in alone],
                "lost": lost,
                "servers": {**{package: version(package) for package in SERVERS}, **peers},
            },
        )
    return 1 if lost else 0


def network_gain(bare: Rates, server: Rates) -> float:
    """Return by which share more images `server` would screen at most if the network took no time at all.

    That is if the processors were busy, and the network the same in the server as without one.
    """
    assert bare.stages is not None
    seconds = bare.stages["network_ms"] / 1000
    return 1 / (1 - seconds * server.rate / cores()) - 1


def stages_text(bare: Mapping[str, Any], gain: float) -> str:
    """Return what an image costs without a server, and what a faster network could gain."""
    half = 1 / (1 - gain / (1 + gain) / 2) - 1
    return (
        f"Without HTTP decoding takes {bare['decode_ms']:.1f} ms of processor time per image, the network "
        f"{bare['network_ms']:.1f} ms. If the network took no time at all, this server would screen at most "
        f"{100 * gain:.0f} % more images per second; one of half the time gains at most {100 * half:.0f} %."
    )


def in_turns(ways: Mapping[str, Callable[[], Screened | Load]], rounds: int) -> dict[str, Rates]:
    """Return what each way measures in `rounds` rounds: first all forwards, then all backwards, and so on."""
    measured: dict[str, list[Screened | Load]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways)[:: -1 if number % 2 else 1]:
            measured[name].append(ways[name]())
    return {name: _rates(results) for name, results in measured.items()}


def drawn_images() -> list[bytes]:
    """Return drawn phantoms as PNG, always the same."""
    from cxr_platform.intake.phantoms.image import ImageKey, draw_image

    def encoded(number: int) -> bytes:
        picture = draw_image(ImageKey(SEED, CLASSES[number % len(CLASSES)], number, 0), HEIGHT).picture
        buffer = io.BytesIO()
        Image.fromarray(np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8)).save(buffer, "PNG")
        return buffer.getvalue()

    return [encoded(number) for number in range(IMAGES)]


def read_images(folder: Path) -> list[bytes]:
    """Return the contents of the first PNG and JPEG files below `folder`; raise `ServingError` if there are none."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)[:IMAGES]
    if not files:
        raise ServingError(
            f"Expected PNG or JPEG images below {folder}.", received="none", advice="Name another folder."
        )
    return [path.read_bytes() for path in files]


def cores() -> int:
    """Return the number of processors."""
    return os.cpu_count() or 1


def _commands(request: ServingRequest, folder: Path) -> dict[str, Sequence[str]]:
    """Return the command that starts each server, but its port."""
    # Port 0 for metrics: another server may be running.
    own = [
        sys.executable,
        "-m",
        "pipelines.serve",
        "--registry",
        str(request.registry.absolute()),
        "--metrics-port",
        "0",
    ]
    commands: dict[str, Sequence[str]] = {OURS: [*own, "--no-explain"]}
    if not request.no_plain:
        commands[PLAIN] = [sys.executable, "-m", "pipelines.benchmarks.plain_server", str(folder)]
    if request.peers is not None:
        commands |= {name: [str(request.peers), "-m", module, str(folder)] for name, module in PEERS.items()}
    return commands


def _load(port: int, images: Sequence[bytes], clients: int, seconds: float) -> Load:
    return run_load(port, "/v1/screen", images, clients=clients, seconds=seconds)


def _rates(results: Sequence[Screened | Load]) -> Rates:
    rates = [result.rate for result in results]
    if bare := [result for result in results if isinstance(result, Screened)]:
        decode, network = ([getattr(result, name) for result in bare] for name in ("decode_ms", "network_ms"))
        stages = {"decode_ms": statistics.median(decode), "network_ms": statistics.median(network)}
        return Rates(rates, stages=stages)
    loads = [result for result in results if isinstance(result, Load)]
    answers = [answer for load in loads for answer in load.answers]
    return Rates(rates, Load(answers, sum(load.seconds for load in loads)))


def _described(contents: Sequence[bytes]) -> dict[str, Any]:
    return {"number": len(contents), "mean_bytes": round(statistics.mean(map(len, contents)))}

"""Serve the champion over HTTP: python -m pipelines.serve --registry registry --port 8000 --keys FILE

POST /v1/screen takes an image; / is a page to try it, /docs says the rest. A promotion is taken up while it runs.
"""

import argparse
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr_platform.errors import ServingError, last_line
from pipelines.command import run_command

if TYPE_CHECKING:
    from cxr_platform.serving.keys import KeyCheck

DIRECT_BYTES = 4 * 2**20
"""Up to which an image goes from proxy to replica without a detour over the object store."""

METRICS_PORT = 9811
"""Where Prometheus finds the replicas' metrics, as infra/prometheus/prometheus.yml has it."""

APPLICATION = "cxr"
REQUEST_SECONDS = 60.0


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until interrupted; returns the exit code: 0, or 2 where it cannot be served."""
    given = _parser().parse_args(argv)
    return run_command(lambda: _run(given))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cxr serve", description=__doc__.split("\n")[0])
    parser.add_argument("--registry", type=Path, default=Path("registry"), help="the folder of a registry")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; other than loopback needs keys")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument(
        "--keys", type=Path, metavar="FILE", help="API keys, one a line (or CXR_API_KEYS_FILE); not with --address"
    )
    parser.add_argument("--replicas", type=int, help="replicas at least (default: one a core, two at the most)")
    parser.add_argument("--most-replicas", type=int, help="replicas at most (default: one a core)")
    parser.add_argument("--no-explain", action="store_true", help="no heatmaps: without TensorFlow's process")
    parser.add_argument(
        "--metrics-port",
        type=int,
        default=METRICS_PORT,
        help=f"on which Prometheus can scrape this machine alone (default: {METRICS_PORT}; 0: any free one)",
    )
    parser.add_argument("--address", help="a Ray cluster to serve on (default: this machine alone)")
    return parser


def _run(given: argparse.Namespace) -> int:
    from cxr_platform.serving.keys import FILE_VARIABLE, check_exposure, find_keys

    cluster = _cluster(given)
    if cluster:
        _check_for_cluster(given, cluster)
    keys = None if cluster else find_keys(given.keys, os.environ)
    check_exposure(given.host, keys)
    version = _first(given.registry)
    if given.keys is not None:
        os.environ[FILE_VARIABLE] = str(given.keys.absolute())
    prepare_environment()
    if not cluster:
        _check_free(given.metrics_port)
    with _served(given):
        stopped = _stop_signals()
        print(_opened(given, version, _who(cluster, keys)), flush=True)
        stopped.wait()
        print("Stopping: requests that are being answered are finished.", flush=True)
    return 0


def _cluster(given: argparse.Namespace) -> str | None:
    """The address of a Ray that runs already; `None` where one is started for this server (`cluster.connect`)."""
    address: str = given.address or os.environ.get("RAY_ADDRESS") or "local"
    return None if address == "local" else address


def _check_for_cluster(given: argparse.Namespace, cluster: str) -> None:
    """On a cluster the proxies run already, and read keys in the environment that their node was started with.

    What this process knows of keys does not reach them; they would refuse whoever has one, or everybody.
    """
    from cxr_platform.serving.keys import FILE_VARIABLE, is_loopback

    if given.keys is not None or not is_loopback(given.host):
        raise ServingError(
            f"Expected neither --keys nor a --host beyond loopback for a Ray that runs already, at {cluster!r}.",
            received=f"--host {given.host}" + ("" if given.keys is None else f" --keys {given.keys}"),
            advice=f"Its nodes need {FILE_VARIABLE}=/path in the environment in which they are started, as in "
            "infra/ray/environment; then set http_options.host in infra/serve/config.yaml and give it to serve deploy.",
        )


@contextmanager
def _served(given: argparse.Namespace) -> Iterator[None]:
    """The application deployed and warm; shut down again afterwards, whatever happened."""
    import logging

    from ray import serve

    from cxr_platform.cluster import connection
    from cxr_platform.serving.deployment import LOGGING, build

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    with connection(given.address, given.metrics_port or None):
        http = {"host": given.host, "port": given.port, "request_timeout_s": REQUEST_SECONDS}
        try:
            serve.start(http_options=http, proxy_location="EveryNode", logging_config=LOGGING)
            serve.run(build(_arguments(given)), name=APPLICATION, route_prefix="/")
            yield
        except RuntimeError as error:
            raise _not_served(given, error) from error
        finally:
            serve.shutdown()


def _first(root: Path) -> str:
    """The version that replicas will begin with, found as they find it: where the champion is broken, the one before.

    So a machine that starts again over a broken champion comes back as one that was never stopped would have gone on.
    """
    from cxr_platform.registry.store import Registry
    from cxr_platform.serving.champion_watcher import Follower

    follower = Follower(Registry(root), lambda _, bundle: bundle.version)
    version, refused = follower.current[0], follower.status.refused
    if refused:
        print(f"{', '.join(refused)} cannot be loaded: {version} answers. See: cxr registry verify.", file=sys.stderr)
    return version


def serve_environment() -> dict[str, str]:
    """What Serve's processes read when they start."""
    from cxr_platform.serving import proxy_middleware

    return {
        proxy_middleware.VARIABLE: proxy_middleware.IMPORT_PATH,
        "RAY_max_direct_call_object_size": str(DIRECT_BYTES),
        # Larger ones take that detour; where the store is full, Ray would go on in files on a disk: here in memory.
        "RAY_object_spilling_directory": "/dev/shm",
    }


def prepare_environment() -> None:
    """Set it, unless the user has."""
    for name, value in serve_environment().items():
        os.environ.setdefault(name, value)


def _check_free(port: int) -> None:
    """Ray starts all the same where it cannot publish metrics, and nobody would know."""
    try:
        socket.create_server(("", port)).close()
    except OSError as error:
        raise ServingError(
            f"Expected port {port} to be free for Prometheus.",
            received=error.strerror,
            advice="Give another --metrics-port, and Prometheus the same; or 0 for any free one.",
        ) from error


def _arguments(given: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `deployment.build`."""
    import ray

    cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
    least = given.replicas or min(2, cores)
    return {
        "registry": str(given.registry.absolute()),
        "keys_file": None if given.keys is None else str(given.keys.absolute()),
        "least_replicas": least,
        "most_replicas": max(least, given.most_replicas or cores),
        "explain": not given.no_explain,
    }


def _not_served(given: argparse.Namespace, error: RuntimeError) -> ServingError:
    return ServingError(
        f"Expected to serve on {given.host}:{given.port}.",
        received=last_line(error)[:300],
        advice="If the port is taken, give another --port; else look into the logs of Ray, /tmp/ray/session_latest.",
    )


def _who(cluster: str | None, keys: "KeyCheck | None") -> str:
    if cluster:
        return f"each machine of {cluster}, for itself; with keys, if its environment names any"
    return "whoever has a key" if keys is not None else "this machine, without keys"


def _opened(given: argparse.Namespace, version: str, who: str) -> str:
    address = f"http://{given.host}:{given.port}"
    return f"Serving {version} for {who}: {address} (for programs: {address}/docs). For research, not for diagnosis."


def _stop_signals() -> threading.Event:
    """Set by Ctrl-C and by SIGTERM, as service managers send it; asked for after Ray has taken both for itself."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    return stopped


if __name__ == "__main__":
    raise SystemExit(main())

"""Serve the champion over HTTP.

    cxr serve --registry registry --port 8000 --keys FILE

POST /v1/screen takes an image, / is a page to try it, /docs describes the API. A running server follows promotions.
"""

import argparse
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr_platform.errors import ServingError, last_line
from pipelines.command import run_command
from pipelines.options import REGISTRY, parse_request
from pipelines.serve_checks import check_cluster_options, check_port_is_free, first_version, tls_options

if TYPE_CHECKING:
    from cxr_platform.serving.api_keys import KeyCheck

DIRECT_BYTES = 4 * 2**20
"""Largest image that goes from proxy to replica directly and not through the object store."""

METRICS_PORT = 9811
"""Port of the replicas' metrics, as in infra/prometheus/prometheus.yml."""

APPLICATION = "cxr"
REQUEST_SECONDS = 60.0
UNENCRYPTED = (
    "Keys and images travel unencrypted to {address}: add --tls-cert and --tls-key, or end TLS in a proxy or ingress."
)


@dataclass(frozen=True)
class ServeRequest:
    """Registry, address, API keys, number of replicas, and the Ray cluster to serve on (`None`: this machine)."""

    registry: Path
    host: str
    port: int
    keys: Path | None
    tls_cert: Path | None
    tls_key: Path | None
    request_log: Path | None
    public_key: str | None
    shadow: str | None
    min_replicas: int | None
    max_replicas: int | None
    no_explain: bool
    metrics_port: int
    address: str | None

    @property
    def cluster(self) -> str | None:
        """Address of a running Ray cluster; `None` if a private Ray is started for this server (`cluster.connect`)."""
        address = self.address or os.environ.get("RAY_ADDRESS") or "local"
        return None if address == "local" else address


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 0 after Ctrl-C or SIGTERM, or 2 if the champion cannot be served."""
    return run_command(lambda: run(parse_request(ServeRequest, parser(), argv)))


def parser() -> argparse.ArgumentParser:
    """Return the options of `cxr serve`."""
    parser = argparse.ArgumentParser(prog="cxr serve", description="Serve the champion over HTTP until stopped.")
    parser.add_argument("--registry", type=Path, default=REGISTRY, help="folder of the registry (default: registry)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; others than loopback need API keys")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (default: 8000)")
    parser.add_argument(
        "--keys", type=Path, metavar="FILE", help="API keys, one per line (or CXR_API_KEYS_FILE); not with --address"
    )
    parser.add_argument(
        "--tls-cert",
        type=Path,
        metavar="FILE",
        help="certificate and its chain (PEM), for HTTPS; not with --address",
    )
    parser.add_argument(
        "--tls-key", type=Path, metavar="FILE", help="private key of the certificate (PEM), unencrypted"
    )
    parser.add_argument(
        "--request-log",
        type=Path,
        metavar="FILE",
        help="append a JSON line for each request (or CXR_REQUEST_LOG); not with --address",
    )
    parser.add_argument(
        "--public-key", metavar="FILE", help="serve only versions that the owner of this key of minisign has signed"
    )
    parser.add_argument(
        "--shadow",
        metavar="VERSION",
        help="have another version screen each image after the champion, unseen by clients, for cxr registry compare",
    )
    parser.add_argument(
        "--min-replicas", type=int, help="smallest number of replicas (default: one per core, at most two)"
    )
    parser.add_argument("--max-replicas", type=int, help="largest number of replicas (default: one per core)")
    parser.add_argument("--no-explain", action="store_true", help="no heatmaps, and no process with Keras")
    parser.add_argument(
        "--metrics-port",
        type=int,
        default=METRICS_PORT,
        help=f"port for Prometheus if Ray is private to this machine (default: {METRICS_PORT}; 0: any free one)",
    )
    parser.add_argument("--address", help="address of a Ray cluster to serve on (default: this machine alone)")
    return parser


def run(request: ServeRequest) -> int:
    """Serve until stopped by Ctrl-C or SIGTERM; return 0."""
    from cxr_platform.registry.signing import read_public_key
    from cxr_platform.registry.store import Registry
    from cxr_platform.serving import request_log
    from cxr_platform.serving.access import check_exposure, is_loopback
    from cxr_platform.serving.api_keys import FILE_VARIABLE, load_keys
    from cxr_platform.serving.spans import RequestSpans
    from cxr_platform.serving.stopping import END_SECONDS, end, stop_event

    cluster = request.cluster
    if cluster:
        check_cluster_options(request, cluster)
    keys = None if cluster else load_keys(request.keys, os.environ)
    check_exposure(request.host, keys)
    tls = tls_options(request.tls_cert, request.tls_key)
    if not tls and not is_loopback(request.host):
        print(UNENCRYPTED.format(address=f"{request.host}:{request.port}"), file=sys.stderr)
    if request.public_key is not None:
        request = replace(request, public_key=read_public_key(request.public_key))
    version = first_version(request.registry, request.public_key)
    if request.shadow is not None:
        Registry(request.registry, request.public_key).open(request.shadow)  # fails here if it cannot be loaded
    if request.keys is not None:
        os.environ[FILE_VARIABLE] = str(request.keys.absolute())
    if request.request_log is not None:
        os.environ[request_log.VARIABLE] = str(request.request_log.absolute())
    if not cluster:
        request_log.RequestLog.from_environment().close()  # fails here if the file cannot be written
        RequestSpans.from_environment().close()  # or if a variable of OpenTelemetry is wrong
    prepare_environment()
    if not cluster:
        check_port_is_free(request.metrics_port)
    with _deployment(request, tls) as private:
        stopped = stop_event(END_SECONDS if private else None)
        address = f"{'https' if tls else 'http'}://{request.host}:{request.port}"
        print(f"Serving {version} for {clients(cluster, keys)}: {address} (API: {address}/docs).", flush=True)
        print("For research, not for diagnosis.", flush=True)
        stopped.wait()
        print("Stopping after the requests under way are answered.", flush=True)
    if private:
        end(0)
    return 0


@contextmanager
def _deployment(request: ServeRequest, tls: dict[str, str]) -> Iterator[bool]:
    """Deploy the application, wait until it is ready, and end it when the block ends (`serving.stopping`).

    The block receives True if Ray was started for this server and ends with it.
    """
    import ray
    from ray import serve

    from cxr_platform.cluster import connection
    from cxr_platform.serving.deployment import LOGGING, build
    from cxr_platform.serving.stopping import drain

    private = request.cluster is None and not ray.is_initialized()
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    with connection(request.address, request.metrics_port or None):
        cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
        http = {"host": request.host, "port": request.port, "request_timeout_s": REQUEST_SECONDS, **tls}
        try:
            serve.start(http_options=http, proxy_location="EveryNode", logging_config=LOGGING)
            serve.run(build(application_arguments(request, cores)), name=APPLICATION, route_prefix="/")
            yield private
            if private and not drain(lambda: serve.delete(APPLICATION)):
                print("Requests that are still under way are not answered.", file=sys.stderr, flush=True)
        except RuntimeError as error:
            raise ServingError(
                f"Expected to serve on {request.host}:{request.port}.",
                received=last_line(error)[:300],
                advice="If the port is in use, choose another --port; else read Ray's logs in /tmp/ray/session_latest.",
            ) from error
        finally:
            if not private:  # else the end of Ray ends Serve
                serve.shutdown()


def serve_environment() -> dict[str, str]:
    """Return the variables that Serve's processes read when they start."""
    from cxr_platform.ray_internals import (
        DIRECT_OBJECT_BYTES,
        PROXY_READY_SECONDS,
        SERVE_MIDDLEWARE,
        SPILL_FOLDER,
    )
    from cxr_platform.serving import proxy_middleware

    return {
        SERVE_MIDDLEWARE: proxy_middleware.IMPORT_PATH,
        DIRECT_OBJECT_BYTES: str(DIRECT_BYTES),
        # Larger images go through the object store. When it is full, Ray spills to files: here in memory, not on disk.
        SPILL_FOLDER: "/dev/shm",
        # Serve kills a proxy that has not started within 5 s (its default), which a busy machine needs to import it.
        PROXY_READY_SECONDS: "60",
    }


def prepare_environment() -> None:
    """Set the variables of `serve_environment`; the user's own values take precedence."""
    for name, value in serve_environment().items():
        os.environ.setdefault(name, value)


def application_arguments(request: ServeRequest, cores: int) -> dict[str, Any]:
    """Return the arguments of `deployment.build` on a cluster of `cores` processors.

    A number of replicas that is not given follows from the other one and the processors.
    """
    fewest = min(2, cores, request.max_replicas or cores) if request.min_replicas is None else request.min_replicas
    return {
        "registry": str(request.registry.absolute()),
        "keys_file": None if request.keys is None else str(request.keys.absolute()),
        "min_replicas": fewest,
        "max_replicas": max(fewest, cores) if request.max_replicas is None else request.max_replicas,
        "public_key": request.public_key,
        "shadow": request.shadow,
        "explain": not request.no_explain,
    }


def clients(cluster: str | None, keys: "KeyCheck | None") -> str:
    """Return which clients are served, for the message at the start."""
    if cluster:
        return f"clients on each machine of {cluster}, and others with an API key if its nodes have any"
    return "clients with an API key" if keys is not None else "clients on this machine, without API keys"


if __name__ == "__main__":
    raise SystemExit(main())

"""Export the state of the registry to Prometheus.

    cxr exporter --registry registry      # then GET http://127.0.0.1:9810/metrics

The metrics of a server, drift among them, are published by its replicas through Ray (infra/prometheus).
"""

import argparse
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.command import run_command
from pipelines.options import REGISTRY, parse_request

PORT = 9810


@dataclass(frozen=True)
class ExporterRequest:
    """Folder of the registry, and the address to listen on."""

    registry: Path
    host: str
    port: int


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 0 after Ctrl-C or SIGTERM, 2 if the address cannot be used."""
    return run_command(lambda: run(parse_request(ExporterRequest, parser(), argv)))


def parser() -> argparse.ArgumentParser:
    """Return the options of `cxr exporter`."""
    parser = argparse.ArgumentParser(
        prog="cxr exporter", description="Export the state of the registry to Prometheus until stopped."
    )
    parser.add_argument("--registry", type=Path, default=REGISTRY, help="folder of the registry (default: registry)")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on, without authentication (default: loopback)"
    )
    parser.add_argument("--port", type=int, default=PORT, help=f"port to listen on (default: {PORT}; 0: any free one)")
    return parser


def run(request: ExporterRequest) -> int:
    """Export until stopped by Ctrl-C or SIGTERM; return 0."""
    from cxr_platform.monitoring.registry_exporter import serve_registry

    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    server = serve_registry(request.registry, request.host, request.port)
    print(
        f"Registry {request.registry} at http://{request.host}:{server.server_port}/metrics. Stop with Ctrl-C.",
        flush=True,
    )
    try:
        stopped.wait()
    except KeyboardInterrupt:
        print("Stopped.")
    finally:
        server.shutdown()
        server.server_close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

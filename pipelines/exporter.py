"""Show Prometheus the registry: cxr exporter --registry registry, then GET http://127.0.0.1:9810/metrics.

The metrics of a server, drift among them, are published by its replicas through Ray (infra/prometheus).
"""

import argparse
import signal
import threading
from collections.abc import Sequence
from pathlib import Path

from pipelines.command import run_command

PORT = 9810


def main(argv: Sequence[str] | None = None) -> int:
    """Export until stopped by Ctrl-C or SIGTERM; returns the exit code."""
    parser = argparse.ArgumentParser(prog="cxr exporter", description=__doc__.split("\n")[0])
    parser.add_argument("--registry", type=Path, default=Path("registry"), help="the folder of the registry")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on; anyone who reaches it may read")
    parser.add_argument("--port", type=int, default=PORT)
    given = parser.parse_args(argv)
    return run_command(lambda: _export(given.registry, given.host, given.port))


def _export(registry: Path, host: str, port: int) -> int:
    from cxr_platform.monitoring.exporter import serve_registry

    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    server = serve_registry(registry, host, port)
    print(f"Registry {registry} at http://{host}:{server.server_port}/metrics. Ctrl-C ends it.", flush=True)
    try:
        stopped.wait()
    except KeyboardInterrupt:
        print("Ended.")
    finally:
        server.shutdown()
        server.server_close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

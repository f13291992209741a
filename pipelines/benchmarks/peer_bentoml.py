"""BentoML with the replicas' own functions and one worker per processor, which `serving` compares with.

It runs in the interpreter that `--peers` names, and needs of this package only what needs no Ray. BentoML's workers
import this module; the folder of the bundle is in their environment.
"""

import argparse
import os
import sys
from pathlib import Path

import bentoml  # type: ignore[import-not-found]

from cxr_platform.registry.bundle import read_bundle
from cxr_platform.serving.screener import Screener

BUNDLE = "CXR_BENCHMARK_BUNDLE"


@bentoml.service(workers=os.cpu_count() or 1)
class Screening:
    """`POST /v1/screen` with a part `file`."""

    def __init__(self) -> None:
        folder = Path(os.environ[BUNDLE])
        self._screener = Screener(folder, read_bundle(folder), threads=1)
        self._screener.warm_up()

    @bentoml.api(route="/v1/screen")  # type: ignore[untyped-decorator]
    def screen(self, file: Path) -> dict[str, str]:
        """Return the most probable class."""
        return {"label": self._screener.screen([self._screener.prepare(file.read_bytes())])[0].label}


def main() -> None:
    """Become BentoML's server."""
    parser = argparse.ArgumentParser(description="Serve a bundle with BentoML.")
    parser.add_argument("bundle")
    parser.add_argument("--port", required=True)
    arguments = parser.parse_args()
    environment = {**os.environ, BUNDLE: arguments.bundle, "BENTOML_DO_NOT_TRACK": "true"}
    service = "pipelines.benchmarks.peer_bentoml:Screening"
    command = ["-m", "bentoml", "serve", service, "--host", "127.0.0.1", "--port", arguments.port]
    os.execve(sys.executable, [sys.executable, *command], environment)


if __name__ == "__main__":
    main()

"""LitServe with the replicas' own functions and one worker per processor, which `serving` compares with.

It runs in the interpreter that `--peers` names, and needs of this package only what needs no Ray.
"""

import argparse
import os
from pathlib import Path

import litserve  # type: ignore[import-not-found]
from fastapi import Request

from cxr_platform.registry.bundle import read_bundle
from cxr_platform.serving.screener import Screener


class Screening(litserve.LitAPI):
    """`POST /v1/screen` with a part `file`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(api_path="/v1/screen")
        self._folder = folder

    def setup(self, device: str) -> None:  # noqa: ARG002
        """Load the network in a worker."""
        self._screener = Screener(self._folder, read_bundle(self._folder), threads=1)
        self._screener.warm_up()

    def decode_request(self, request: Request) -> bytes:
        """Return the bytes of the file."""
        data: bytes = request["file"].file.read()  # LitServe passes the form
        return data

    def predict(self, data: bytes) -> str:
        """Return the most probable class."""
        return self._screener.screen([self._screener.prepare(data)])[0].label

    def encode_response(self, label: str) -> dict[str, str]:
        """Return the answer."""
        return {"label": label}


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="Serve a bundle with LitServe.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    cores = os.cpu_count() or 1
    server = litserve.LitServer(
        Screening(arguments.bundle), accelerator="cpu", workers_per_device=cores, healthcheck_path="/readyz"
    )
    server.run(
        host="127.0.0.1", port=arguments.port, num_api_servers=1, log_level="warning", generate_client_file=False
    )


if __name__ == "__main__":
    main()

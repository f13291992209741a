"""MLflow's own server in a process, with SQLite, on loopback."""

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.ports import free_port
from tests.waiting import wait_until

START_SECONDS, STOP_SECONDS = 240.0, 10.0


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """Yield the address of a server that keeps everything in `folder`; end it and its workers afterwards."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    off = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment = {**os.environ, **off, "PYTHONWARNINGS": "ignore"}
    log = folder / "server.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, cwd=folder, stdout=stream, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    try:
        wait_until(
            lambda: process.poll() is not None or _answers(address), START_SECONDS, describe=lambda: log.read_text()
        )
        assert process.poll() is None, log.read_text()
        yield address
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):  # the group: its workers too
                os.killpg(process.pid, number)
                process.wait(STOP_SECONDS)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False

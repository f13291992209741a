"""`cxr serve` in its own process, and the processes below it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import REPOSITORY

KEY = "a-key-of-many-characters"
START_SECONDS, STOP_SECONDS = 180, 60


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@contextmanager
def served(registry: Path, folder: Path, *arguments: str) -> Iterator[tuple[int, int]]:
    """Yield (port, process id) of a server with `KEY`, whose log and keys are in `folder`. It must exit with 0."""
    (folder / "keys").write_text(KEY, encoding="utf-8")
    port = free_port()
    command = [sys.executable, "-m", "pipelines.serve", "--registry", str(registry), "--port", str(port)]
    command += ["--keys", str(folder / "keys"), *arguments]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=subprocess.STDOUT, env=environment)
    try:
        deadline = time.monotonic() + START_SECONDS
        while "Serving v1" not in (folder / "log").read_text():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.2)
        yield port, process.pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_SECONDS) == 0, (folder / "log").read_text()
        assert "graceful_shutdown" not in (folder / "log").read_text(), "Ray reports an error of its own end"
    finally:
        process.kill()


def replicas(parent: int, deployment: str) -> list[int]:
    """Return the process ids of the replicas of `deployment` below the process `parent`."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=2) for line in listed.splitlines()[1:]]
    children: dict[int, list[int]] = {}
    for pid, above, *_ in rows:
        children.setdefault(int(above), []).append(int(pid))
    below, pending = set(), [parent]
    while pending:
        direct = children.get(pending.pop(), [])
        below.update(direct)
        pending += direct
    name = f"ServeReplica:cxr:{deployment}"
    return [int(pid) for pid, _, *words in rows if int(pid) in below and name in "".join(words)]

"""`cxr serve` in its own process, and the processes below it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import REPOSITORY
from tests.ports import free_port
from tests.waiting import wait_until

KEY = "a-key-of-many-characters"
START_SECONDS, STOP_SECONDS, ANSWER_SECONDS = 600, 300, 120
"""Far more than any takes: they end a test that would wait for ever, on a busy machine too."""

get, post = partial(httpx.get, timeout=ANSWER_SECONDS), partial(httpx.post, timeout=ANSWER_SECONDS)
"""As in httpx, whose limit of 5 s a busy machine exceeds."""


@contextmanager
def served(registry: Path, folder: Path, *arguments: str, with_key: bool = True) -> Iterator[tuple[int, int]]:
    """Yield (port, process id) of a server, whose log and keys are in `folder`; it has `KEY`. It must exit with 0."""
    (folder / "keys").write_text(KEY, encoding="utf-8")
    port = free_port()
    command = [sys.executable, "-m", "pipelines.serve", "--registry", str(registry), "--port", str(port)]
    command += ["--keys", str(folder / "keys"), *arguments] if with_key else arguments
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    options: dict[str, Any] = {"cwd": REPOSITORY, "env": environment, "stderr": subprocess.STDOUT}
    with (folder / "log").open("w") as log:  # as in a terminal, the process is the first one of a group
        process = subprocess.Popen(command, stdout=log, start_new_session=True, **options)
    try:
        wait_until_serving(process, folder / "log")
        yield port, process.pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_SECONDS) == 0, (folder / "log").read_text()
        assert "graceful_shutdown" not in (folder / "log").read_text(), "Ray reports an error of its own end"
    finally:
        process.kill()


def wait_until_serving(process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Return once `cxr serve`, which writes to `log`, serves v1; fail with the log if it ends or takes too long."""
    wait_until(lambda: "Serving v1" in log.read_text() or process.poll() is not None, START_SECONDS, 0.2, log.read_text)
    assert process.poll() is None, log.read_text()


def press_ctrl_c(process: int) -> float:
    """Send SIGINT to the group of `served`, as a terminal does; return the seconds until the process has ended.

    They are counted by how often this process looked: it may stand still meanwhile. `served` reads the exit code.
    """
    looked = 0

    def has_ended() -> bool:
        nonlocal looked
        looked += 1
        return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    os.killpg(process, signal.SIGINT)
    wait_until(has_ended, STOP_SECONDS, pause := 0.05)
    return looked * pause


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

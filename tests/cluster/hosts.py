"""Several machines on one: network namespaces with addresses of their own, connected by a bridge and to nothing else.

Each has its own folder for Ray's sessions, because nodes that share one remove each other's files. Everything that runs
on a machine can be killed at once, as when it is lost. Needs root and iproute2.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.waiting import wait_until

SUBNET = "10.77.0"
GCS, JOBS = 6379, 8265
SESSIONS = "/tmp/cxr-ray"
OWN = f'hostname "$0" && mount --bind {SESSIONS}-"$0" {SESSIONS} && exec "$@"'
BIN = Path(sys.executable).parent


def need_hosts() -> None:
    """Skip if network namespaces cannot be created, or curl is not installed."""
    if shutil.which("ip") is None or shutil.which("curl") is None or os.geteuid() != 0:
        pytest.skip("needs root, iproute2 and curl to make network namespaces and to ask what runs in them")
    made = subprocess.run(["ip", "netns", "add", "cxr-probe"], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no network namespaces here: {made.stderr.strip()}")
    _ip("netns", "del", "cxr-probe")


@dataclass
class Host:
    """One machine: a namespace and its address."""

    name: str
    address: str
    environment: Mapping[str, str] = field(default_factory=dict)
    started: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    @property
    def sessions(self) -> str:
        """The folder that the machine sees as `SESSIONS`."""
        return f"{SESSIONS}-{self.name}"

    def popen(self, *command: str, log: Path) -> "subprocess.Popen[bytes]":
        """Start `command` on the machine, with its output in `log`."""
        with log.open("ab") as stream:
            process = subprocess.Popen(
                self._within(*command),
                env=self._all(),
                cwd=REPOSITORY,
                stdout=stream,
                stderr=stream,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def run(self, *command: str, **more: str) -> "subprocess.CompletedProcess[str]":
        """Run `command` on the machine and return its result."""
        environment = {**self._all(), **more}
        return subprocess.run(self._within(*command), env=environment, cwd=REPOSITORY, capture_output=True, text=True)

    def _within(self, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, "unshare", "--mount", "--uts", "sh", "-c", OWN, self.name, *command]

    def kill_all(self) -> None:
        """Kill everything that runs on the machine, as when its power is cut."""
        while running := self.processes():
            for process in running:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.1)
        for child in self.started:  # also those that ended by themselves: Python warns of them in a later test
            child.wait()

    def processes(self) -> list[int]:
        """Ids of the processes on the machine."""
        output = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=True).stdout
        return [int(process) for process in output.split()]

    def processes_of(self, title: str) -> list[int]:
        """Ids of the processes on the machine whose command begins with `title`, as Ray names those of its workers."""
        found = []
        for process in self.processes():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                if Path(f"/proc/{process}/cmdline").read_bytes().startswith(title.encode()):
                    found.append(process)
        return found

    def _all(self) -> dict[str, str]:
        path = f"{BIN}:{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "PYTHONPATH": str(REPOSITORY), **self.environment}


@contextmanager
def hosts(count: int, environment: Mapping[str, str]) -> Iterator[list[Host]]:
    """`count` machines that reach each other and nothing else."""
    tag = uuid.uuid4().hex[:6]
    bridge = f"cxr{tag}n"
    made = [Host(f"cxr{tag}{i}", f"{SUBNET}.{i + 1}", environment) for i in range(count)]
    with ExitStack() as held:
        _ip("netns", "add", bridge)
        held.callback(_ip, "netns", "del", bridge)
        _ip("-n", bridge, "link", "add", "br0", "type", "bridge")
        _ip("-n", bridge, "link", "set", "br0", "up")
        Path(SESSIONS).mkdir(exist_ok=True)
        for host in made:
            Path(host.sessions).mkdir()
            held.callback(shutil.rmtree, host.sessions, ignore_errors=True)
            _ip("netns", "add", host.name)
            held.callback(_ip, "netns", "del", host.name)
            held.callback(host.kill_all)
            _join(host, bridge)
        yield made


def _join(host: Host, bridge: str) -> None:
    link = f"v{host.name}"
    _ip("-n", bridge, "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", host.name)
    _ip("-n", bridge, "link", "set", link, "master", "br0")
    _ip("-n", bridge, "link", "set", link, "up")
    _ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", "eth0")
    for device in ("lo", "eth0"):
        _ip("-n", host.name, "link", "set", device, "up")
    _ip("-n", host.name, "route", "add", "default", "dev", "eth0")  # Ray takes the address of the default route


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def start_ray(host: Host, head: Host, log: Path, cpus: float = 1, port: int = GCS) -> None:
    """Start a Ray node on `host`, which is the head of the cluster if `host` is `head`."""
    where = ["--head", f"--port={port}", "--include-dashboard=true", f"--dashboard-host={head.address}"]
    if host is not head:
        where = [f"--address={head.address}:{port}"]
    host.popen(
        *("ray", "start", *where, f"--node-ip-address={host.address}", f"--num-cpus={cpus:g}"),
        *("--object-store-memory=300000000", f"--temp-dir={SESSIONS}", "--block", "--disable-usage-stats"),
        log=log,
    )


def alive_nodes(head: Host) -> int:
    """Number of nodes of the cluster with the head; 0 if its dashboard does not answer.

    By curl, since a Python process that joins the cluster takes seconds of a processor that the cluster needs.
    """
    token = head.environment["RAY_AUTH_TOKEN"]
    words = ("--silent", "--max-time", "120", "--header", f"Authorization: Bearer {token}")
    answer = head.run("curl", *words, f"http://{head.address}:{JOBS}/api/v0/nodes").stdout
    try:
        nodes = json.loads(answer)["data"]["result"]["result"]
    except (ValueError, KeyError, TypeError):
        print(answer[-500:])  # pytest shows it if the test fails
        return 0
    return sum(node["state"] == "ALIVE" for node in nodes)


def wait_for_nodes(head: Host, count: int, seconds: float = 300) -> None:
    """Wait until `count` nodes of the cluster are alive."""
    wait_until(lambda: alive_nodes(head) == count, seconds=seconds, pause=0.5)

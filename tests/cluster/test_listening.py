"""A private Ray instance, which every verb starts without --ray-address, is reached from its own machine alone."""

import sys
from collections.abc import Iterator

import pytest

from tests.cluster.hosts import Host, hosts, need_hosts

pytestmark = pytest.mark.ray

START = """
import subprocess, ray
from cxr_platform.cluster import connect
connect(metrics_port=9811)
ray.get(ray.remote(lambda: 1).remote())
print(subprocess.run(["ss", "-ltnH"], capture_output=True, text=True, check=True).stdout)
"""


@pytest.fixture
def host() -> Iterator[Host]:
    need_hosts()
    with hosts(1, {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}) as (host,):
        yield host


def test_nothing_listens_beyond_loopback(host: Host) -> None:
    done = host.run(sys.executable, "-c", START)
    assert done.returncode == 0, done.stderr
    listening = [line for line in done.stdout.splitlines() if line.startswith("LISTEN")]  # Ray prints there too
    addresses = [line.split()[3].rpartition(":")[0] for line in listening]
    assert len(addresses) > 3
    assert {address.strip("[]").removeprefix("::ffff:") for address in addresses} == {"127.0.0.1"}

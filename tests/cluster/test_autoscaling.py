"""A study on a cluster that has no node to run it, and an autoscaler that starts some when they are asked for."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cxr_platform.cluster import NODE_GROUPS
from pipelines import phantoms
from tests.cluster.hosts import GCS, JOBS, SESSIONS, Host, alive_nodes, hosts, need_hosts, wait_for_nodes
from tests.cluster.test_nodes import ENVIRONMENT, PROFILE, trials
from tests.waiting import wait_until

pytestmark = pytest.mark.ray

CONFIG = {
    "cluster_name": "grows",
    "max_workers": 2,
    "upscaling_speed": 20,
    "idle_timeout_minutes": 0.5,
    "provider": {
        "type": "external",
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "launch_multiple": True,
        "head_node_id": "f" * 56,
    },
    "auth": {},
    "setup_commands": [],
    "head_setup_commands": [],
    "worker_setup_commands": [],
    "cluster_synced_files": [],
    "head_node_type": "ray.head.default",
    "available_node_types": {
        "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "small": {
            "resources": {"CPU": 2, "object_store_memory": 200_000_000},
            "node_config": {},
            "min_workers": 0,
            "max_workers": 2,
        },
    },
}
"""Ray's own stand-in for a cloud, whose nodes are processes of the head's machine."""
SCALING = {
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "RAY_FAKE_CLUSTER": "1",
    "RAY_enable_autoscaler_v2": "1",
    "RAY_CLOUD_INSTANCE_ID": "f" * 56,
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": "f" * 56,
    NODE_GROUPS: json.dumps([{"resources": {"CPU": 2}, "count": 2}]),
}


@pytest.fixture
def head(tmp_path: Path) -> Iterator[Host]:
    need_hosts()
    (tmp_path / "cluster.json").write_text(json.dumps(CONFIG))
    with hosts(1, ENVIRONMENT) as (head,):
        start = ("ray", "start", "--head", f"--port={GCS}", f"--node-ip-address={head.address}", "--num-cpus=0")
        more = (f"--dashboard-host={head.address}", "--object-store-memory=200000000", f"--temp-dir={SESSIONS}")
        scaling = ("env", *(f"{name}={value}" for name, value in SCALING.items()))
        config = f"--autoscaling-config={tmp_path / 'cluster.json'}"
        head.popen(*scaling, *start, *more, config, "--block", log=tmp_path / "head.log")
        wait_for_nodes(head, 1)
        yield head


def test_nodes_are_started_for_a_study_and_stopped_after_it(head: Host, tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(PROFILE.replace("EPOCHS", "3").replace("cpu = 1.0", "cpu = 2.0"))
    assert phantoms.main(["--out", str(tmp_path / "images"), "--per-class", "9", "--seed", "3", "--size", "224"]) == 0
    places = ["--data", str(tmp_path / "images"), "--storage", str(tmp_path / "out")]
    study = ["--profile", str(tmp_path / "tiny.toml"), "--name", "t", "--strategies", "scratch", "--no-report"]
    # Without a copy of the checkout: these nodes share one folder, and the first that is done removes it for all.
    to = ("ray", "job", "submit", f"--address=http://{head.address}:{JOBS}", "--")
    job = head.popen(*to, "python", "-m", "pipelines.cross_validate", *places, *study, log=tmp_path / "log")
    alive: list[int] = []

    def ended() -> bool:
        alive.append(alive_nodes(head))
        return job.poll() is not None

    wait_until(ended, seconds=600, pause=2)
    assert job.returncode == 0, (tmp_path / "log").read_text()[-3000:]
    assert max(alive) in (2, 3)
    ran = trials(tmp_path, "out")  # where the head has no processor to run them
    assert [trial["cpus"] for trial in ran] == [2.0] * 3
    wait_until(lambda: alive_nodes(head) == 1, seconds=300, pause=1)

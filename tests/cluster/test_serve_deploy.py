"""`serve deploy infra/serve/config.yaml` on Ray nodes that are started with the variables of infra."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.hosts import GCS, SESSIONS, Host, hosts, need_hosts
from tests.conftest import REPOSITORY
from tests.serving.builders import image_png, registry_with_champion
from tests.waiting import wait_until

pytestmark = pytest.mark.ray

TOKEN = {"RAY_AUTH_TOKEN": "0123456789abcdef" * 3}
VERSION = ("http://127.0.0.1:8265/api/version", "-H", f"Authorization: Bearer {TOKEN['RAY_AUTH_TOKEN']}")


def node_environment() -> dict[str, str]:
    lines = (REPOSITORY / "infra" / "ray" / "environment").read_text().splitlines()
    pairs = (line.split("=", 1) for line in lines if line and not line.startswith(("#", "PATH=")))
    return dict(pairs)


@pytest.fixture
def head(tmp_path: Path) -> Iterator[Host]:
    need_hosts()
    with hosts(1, {**node_environment(), **TOKEN}) as (head,):
        start_head(head, tmp_path, cpus=2)
        yield head


def start_head(head: Host, tmp_path: Path, cpus: int) -> "subprocess.Popen[bytes]":
    options = (f"--port={GCS}", f"--num-cpus={cpus}", "--object-store-memory=200000000", f"--temp-dir={SESSIONS}")
    return head.popen("ray", "start", "--head", *options, "--block", log=tmp_path / "head.log")


def asked(host: Host, *curl: str) -> str:
    return host.run("curl", "--silent", "--show-error", "--max-time", "120", *curl).stdout


def wait_for(host: Host, text: str, *curl: str) -> None:
    wait_until(lambda: text in asked(host, *curl), 180, 1, lambda: asked(host, *curl))


def deploy(head: Host, tmp_path: Path, **arguments: object) -> None:
    """Deploy infra/serve/config.yaml, changed for the registry of this test and small machines, once Ray answers."""
    registry_with_champion(tmp_path / "registry")
    config = yaml.safe_load((REPOSITORY / "infra" / "serve" / "config.yaml").read_text())
    (application,) = config["applications"]
    application["args"] |= {"registry": str(tmp_path / "registry"), "min_replicas": 1, "explain": False, **arguments}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    wait_for(head, "ray_version", *VERSION)
    deployed = head.run("serve", "deploy", str(tmp_path / "config.yaml"))
    assert deployed.returncode == 0, deployed.stderr


def test_the_configuration_is_deployed_and_answers_an_image(head: Host, tmp_path: Path) -> None:
    deploy(head, tmp_path)
    (tmp_path / "image.png").write_bytes(image_png())
    wait_for(head, "v1", "http://127.0.0.1:8000/readyz")
    answer = json.loads(asked(head, "-F", f"file=@{tmp_path / 'image.png'}", "http://127.0.0.1:8000/v1/screen"))
    assert answer["model"]["version"] == "v1"
    assert answer["decision"]
    wait_until(lambda: running(head), 180, 1)
    listening = head.run("ss", "-ltnH").stdout
    assert "127.0.0.1:8265" in listening
    assert "127.0.0.1:8000" in listening


def test_replicas_answer_while_the_head_is_replaced(tmp_path: Path) -> None:
    """With the head's records on a volume, as in infra/kubernetes (`gcsFaultToleranceOptions`).

    KubeRay sets the same variables: where the records are, and how long nodes wait for a new head.
    """
    need_hosts()
    (tmp_path / "volume").mkdir()
    records = {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": str(tmp_path / "volume")}
    environment = {**node_environment(), **TOKEN, **records, "RAY_gcs_rpc_server_reconnect_timeout_s": "600"}
    with hosts(2, environment) as (head, node):
        start_head(head, tmp_path, cpus=0)
        wait_for(head, "ray_version", *VERSION)
        options = ("--num-cpus=2", "--object-store-memory=200000000", "--block")
        node.popen("ray", "start", f"--address={head.address}:{GCS}", *options, log=tmp_path / "node.log")
        deploy(head, tmp_path, replicas_per_node=1)
        ready = ("http://127.0.0.1:8000/readyz",)
        wait_for(node, "v1", *ready)
        before = replicas(node)
        assert before

        lose(head)
        assert "v1" in asked(node, *ready)
        started = [start_head(head, tmp_path, cpus=0)]

        def runs_again() -> bool:
            if started[-1].poll() is not None:  # slower than Ray's own limits, as on a busy machine
                lose(head)
                started.append(start_head(head, tmp_path, cpus=0))  # Kubernetes starts a container again too
            return running(head)

        wait_until(runs_again, 300, 1, lambda: (tmp_path / "head.log").read_text())
        assert "v1" in asked(node, *ready)
        assert replicas(node) == before, "the same processes"


def lose(head: Host) -> None:
    """Kill everything on the head; that of a new pod has no files of the old one."""
    head.kill_all()
    for entry in Path(head.sessions).iterdir():
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def replicas(node: Host) -> set[int]:
    return {*node.processes_of("ray::ServeReplica")}


def running(head: Host) -> bool:
    status = yaml.safe_load(head.run("serve", "status").stdout) or {}
    return status.get("applications", {}).get("cxr", {}).get("status") == "RUNNING"

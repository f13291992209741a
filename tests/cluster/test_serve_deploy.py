"""`serve deploy infra/serve/config.yaml` on a Ray head that is started with the variables of infra."""

import json
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


def node_environment() -> dict[str, str]:
    lines = (REPOSITORY / "infra" / "ray" / "environment").read_text().splitlines()
    pairs = (line.split("=", 1) for line in lines if line and not line.startswith(("#", "PATH=")))
    return dict(pairs)


@pytest.fixture
def head(tmp_path: Path) -> Iterator[Host]:
    need_hosts()
    with hosts(1, {**node_environment(), **TOKEN}) as (head,):
        sizes = ("--num-cpus=2", "--object-store-memory=200000000", f"--temp-dir={SESSIONS}")
        head.popen("ray", "start", "--head", f"--port={GCS}", *sizes, "--block", log=tmp_path / "head.log")
        yield head


def asked(head: Host, *curl: str) -> str:
    return head.run("curl", "--silent", "--show-error", "--max-time", "30", *curl).stdout


def wait_for(head: Host, text: str, *curl: str) -> None:
    wait_until(lambda: text in asked(head, *curl), 180, 1, lambda: asked(head, *curl))


def test_the_configuration_is_deployed_and_answers_an_image(head: Host, tmp_path: Path) -> None:
    registry_with_champion(tmp_path / "registry")
    config = yaml.safe_load((REPOSITORY / "infra" / "serve" / "config.yaml").read_text())
    (application,) = config["applications"]
    # Changed only for the registry of this test and a machine of two processors.
    application["args"] |= {"registry": str(tmp_path / "registry"), "min_replicas": 1, "explain": False}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "image.png").write_bytes(image_png())

    bearer = f"Authorization: Bearer {TOKEN['RAY_AUTH_TOKEN']}"
    wait_for(head, "ray_version", "http://127.0.0.1:8265/api/version", "-H", bearer)
    deployed = head.run("serve", "deploy", str(tmp_path / "config.yaml"))
    assert deployed.returncode == 0, deployed.stderr
    wait_for(head, "v1", "http://127.0.0.1:8000/readyz")
    answer = json.loads(asked(head, "-F", f"file=@{tmp_path / 'image.png'}", "http://127.0.0.1:8000/v1/screen"))
    assert answer["model"]["version"] == "v1"
    assert answer["decision"]
    status = yaml.safe_load(head.run("serve", "status").stdout)
    assert status["applications"]["cxr"]["status"] == "RUNNING"
    listening = head.run("ss", "-ltnH").stdout
    assert "127.0.0.1:8265" in listening
    assert "127.0.0.1:8000" in listening

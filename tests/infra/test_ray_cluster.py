"""infra/ray: the cluster launcher's file, as Ray's own code checks it."""

import re
from typing import Any

import jsonschema
import pytest
import yaml

from pipelines.serve import serve_environment
from tests.conftest import REPOSITORY
from tests.infra.tools import run

FOLDER = REPOSITORY / "infra" / "ray"
TEXT = (FOLDER / "cluster.yaml").read_text(encoding="utf-8")


@pytest.fixture
def cluster() -> dict[str, Any]:
    cluster: dict[str, Any] = yaml.safe_load(TEXT)
    return cluster


def started(cluster: dict[str, Any]) -> list[str]:
    return [cluster["head_start_ray_commands"][-1], cluster["worker_start_ray_commands"][-1]]


def validate(cluster: dict[str, Any]) -> dict[str, Any]:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared: dict[str, Any] = prepare_config(cluster)
    validate_config(prepared)
    return prepared


def test_the_launcher_accepts_the_file(cluster: dict[str, Any]) -> None:
    assert validate(cluster)["max_workers"] == len(cluster["provider"]["worker_ips"])


def test_the_launcher_refuses_an_unknown_key(cluster: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        validate({**cluster, "worker_start_commands": []})


def test_every_node_starts_in_token_mode_with_the_variables_of_serve(cluster: dict[str, Any]) -> None:
    for command in started(cluster):
        assert "set -a && . infra/ray/environment &&" in command
    done = run("bash", "-euc", f"set -a; HOME=/home/x; . {FOLDER / 'environment'}; env")
    variables = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    serving = serve_environment()
    serving.pop("RAY_object_spilling_directory")  # studies run here too, and what they spill belongs on a disk
    assert variables.items() >= {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", **serving}.items()
    assert "RAY_object_spilling_directory" not in variables
    for file in (FOLDER / "environment", REPOSITORY / "infra" / "serve" / "README.md"):
        assert "Ray of its own" in " ".join(file.read_text(encoding="utf-8").replace("#", "").split()), (
            "the text explains why"
        )
    assert variables["PATH"].startswith("/home/x/cxr-platform/.venv/bin:")
    assert cluster["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


def test_the_dashboard_listens_on_loopback_and_metrics_have_a_fixed_port(cluster: dict[str, Any]) -> None:
    head, worker = started(cluster)
    assert "--dashboard-host=127.0.0.1" in head
    assert "--port=6379" in head
    assert "--address=$RAY_HEAD_IP:6379" in worker
    assert all("--metrics-export-port=8080" in command for command in (head, worker))
    assert "0.0.0.0" not in TEXT


def test_every_option_is_one_of_ray(cluster: dict[str, Any]) -> None:
    from ray.scripts.scripts import start

    known = {name for parameter in start.params for name in parameter.opts}
    given = {
        name for command in started(cluster) for name in re.findall(r"--[\w-]+", command.partition("ray start")[2])
    }
    assert given - known == set()


def test_every_command_is_valid_shell_and_names_existing_files(cluster: dict[str, Any]) -> None:
    commands = [each for key, value in cluster.items() if key.endswith("_commands") for each in value]
    assert len(commands) == 7
    for command in commands:
        assert run("bash", "-nc", command).stderr == ""
        for name in re.findall(r"infra/[\w./-]+", command):
            assert (REPOSITORY / name).is_file(), name


def test_images_studies_and_environments_are_not_copied(cluster: dict[str, Any]) -> None:
    ignored = (REPOSITORY / ".gitignore").read_text(encoding="utf-8").splitlines()
    environments = {".venv/", ".venv-jax/"}
    expected = {"/data/", "/runs/", "/registry/", "__pycache__/"} | environments
    assert expected <= set(cluster["rsync_exclude"]) & set(ignored)

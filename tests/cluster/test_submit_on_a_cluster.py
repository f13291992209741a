"""`cxr submit` to a Ray head on one machine: a verb that connects to Ray itself, and a job that is stopped."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from pipelines import phantoms
from tests.cluster.hosts import JOBS, Host, hosts, need_hosts, start_ray, wait_for_nodes
from tests.waiting import wait_until

pytestmark = pytest.mark.ray

ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "0123456789abcdef" * 3,
    "RAY_USAGE_STATS_ENABLED": "0",
    "KERAS_BACKEND": "tensorflow" if find_spec("tensorflow") else "jax",
}


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    need_hosts()
    with hosts(1, ENVIRONMENT) as (head,):
        start_ray(head, head, tmp_path_factory.mktemp("ray") / "head.log", cpus=2)
        wait_for_nodes(head, 1)
        yield head


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = tmp_path_factory.mktemp("images") / "images"
    assert phantoms.main(["--out", str(images), "--per-class", "4", "--seed", "3", "--size", "224"]) == 0
    return images


def submit(head: Host, *words: str) -> list[str]:
    return [sys.executable, "-m", "pipelines.submit", "--address", f"http://{head.address}:{JOBS}", *words]


def submitted(log: Path, process: "subprocess.Popen[bytes]") -> str:
    """Wait until the job is submitted and return its name."""
    name = re.compile(r"^(raysubmit_\w+): python", re.MULTILINE)
    wait_until(lambda: name.search(log.read_text()) or process.poll() is not None, 300, 0.2, log.read_text)
    match = name.search(log.read_text())
    assert match is not None, log.read_text()
    return match[1]


def wait_until_running(head: Host, job: str) -> None:
    status = ("ray", "job", "status", f"--address=http://{head.address}:{JOBS}", job)
    wait_until(lambda: "RUNNING" in head.run(*status).stdout, 300, 0.5, lambda: head.run(*status).stdout)


def test_a_submitted_verb_connects_to_ray_and_keeps_its_keras_backend(head: Host, images: Path, tmp_path: Path) -> None:
    verb = ("manifest", "--data", str(images), "--out", str(tmp_path / "manifest"), "--folds", "2")
    done = head.run(*submit(head, *verb))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "manifest" / "manifest.json").exists()


def test_following_a_stopped_job_is_exit_code_1(head: Host, tmp_path: Path) -> None:
    fifo, log = tmp_path / "fifo.toml", tmp_path / "submit.log"
    os.mkfifo(fifo)  # reading it blocks, like a running job
    verb = ("manifest", "--data", str(tmp_path), "--out", str(tmp_path / "out"), "--profile", str(fifo))
    following = head.popen(*submit(head, *verb), log=log)
    job = submitted(log, following)
    wait_until_running(head, job)
    assert head.run(*submit(head, "--stop", job)).returncode == 0
    assert following.wait(300) == 1
    assert f"Expected job {job} to succeed" in log.read_text()


def test_stopping_an_unknown_job_is_an_error(head: Host) -> None:
    done = head.run(*submit(head, "--stop", "raysubmit_none"))
    assert done.returncode == 2, done.stderr
    assert "raysubmit_none" in done.stderr
    assert "Traceback" not in done.stderr

"""`cxr submit` with a Ray head of one machine: a verb that connects to Ray in its turn, and a job that is ended."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import phantoms
from tests.cluster.hosts import JOBS, Host, hosts, need_hosts, start_ray, wait_for_nodes

pytestmark = pytest.mark.ray

ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "0123456789abcdef" * 3,
    "RAY_USAGE_STATS_ENABLED": "0",
    "KERAS_BACKEND": "tensorflow",
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
    """The name of the job, once it is told."""
    ends = time.monotonic() + 60
    while (found := re.search(r"^(raysubmit_\w+): python", log.read_text(), re.MULTILINE)) is None:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < ends
        time.sleep(0.2)
    return found[1]


def wait_until_running(head: Host, job: str) -> None:
    ends = time.monotonic() + 60
    status = ("ray", "job", "status", f"--address=http://{head.address}:{JOBS}", job)
    while "RUNNING" not in (told := head.run(*status).stdout):
        assert time.monotonic() < ends, told
        time.sleep(0.5)


def test_a_verb_that_connects_to_ray_runs_with_the_keras_backend_it_was_submitted_with(
    head: Host, images: Path, tmp_path: Path
) -> None:
    verb = ("manifest", "--data", str(images), "--out", str(tmp_path / "manifest"), "--folds", "2")
    done = head.run(*submit(head, *verb))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "manifest" / "manifest.json").exists()


def test_who_follows_a_job_that_is_stopped_is_told_and_ends_with_1(head: Host, tmp_path: Path) -> None:
    fifo, log = tmp_path / "fifo.toml", tmp_path / "submit.log"
    os.mkfifo(fifo)  # reading it waits, as a job under way does
    verb = ("manifest", "--data", str(tmp_path), "--out", str(tmp_path / "out"), "--profile", str(fifo))
    following = head.popen(*submit(head, *verb), log=log)
    job = submitted(log, following)
    wait_until_running(head, job)
    assert head.run(*submit(head, "--stop", job)).returncode == 0
    assert following.wait(120) == 1
    assert f"Expected job {job} to succeed" in log.read_text()


def test_a_job_that_there_is_not_is_told_with_what_to_do(head: Host) -> None:
    done = head.run(*submit(head, "--stop", "raysubmit_none"))
    assert done.returncode == 2, done.stderr
    assert "raysubmit_none" in done.stderr
    assert "Traceback" not in done.stderr

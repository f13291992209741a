"""Processes on loopback for tests of monitoring: a server, metrics of batch jobs, Prometheus."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import yaml

from cxr_platform.monitoring.job_metrics import Destination, champion_counts, manifest_counts, measured, study_counts
from tests.conftest import REPOSITORY
from tests.ports import free_port
from tests.serving.serve_process import wait_until_serving
from tests.waiting import wait_until

SHIPPED = REPOSITORY / "infra" / "prometheus"
START_SECONDS = 600.0
STOP_SECONDS = 60.0
ANSWER_SECONDS = 60.0
"""Far more than any takes."""


@contextmanager
def process(command: list[str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that gets SIGTERM at the end of the block, and is killed if it does not stop."""
    with log.open("w") as file:
        environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
        started = subprocess.Popen(command, cwd=REPOSITORY, stdout=file, stderr=subprocess.STDOUT, env=environment)
    try:
        yield started
    finally:
        started.send_signal(signal.SIGTERM)
        try:
            started.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


@contextmanager
def served(registry: Path, folder: Path, metrics_port: int) -> Iterator[str]:
    """The address of `cxr serve` with one replica, so that its window has every image."""
    port, log = free_port(), folder / "server.log"
    command = [sys.executable, "-m", "pipelines.serve", "--registry", str(registry), "--port", str(port)]
    command += ["--metrics-port", str(metrics_port), "--no-explain", "--min-replicas", "1", "--max-replicas", "1"]
    with process(command, log) as running:
        wait_until_serving(running, log)
        yield f"http://127.0.0.1:{port}"


@contextmanager
def textfiles(folder: Path) -> Iterator[int]:
    """The port of a stand-in for node exporter that returns the files of batch jobs in `folder`."""

    class Textfiles(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"".join(file.read_bytes() for file in sorted(folder.glob("*.prom")))
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Textfiles)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def run_jobs(folder: Path) -> None:
    """Write the metrics of a manifest, a study and a champion to `folder`."""
    job = partial(measured, study="images", destination=Destination(folder), on_message=print)
    with job("manifest") as manifest:
        manifest_counts(manifest, {("Covid19", "cohen"): 40}, {"low-contrast": 2})
    with job("study") as study:
        study_counts(study, {"finished": 3, "failed": 0}, {"scratch": 81.0})
    with job("champion") as champion:
        champion_counts(champion, "scratch", 40, 3, 81.0)


class Prometheus:
    """Debian's Prometheus with the shipped configuration, at `url` while it runs."""

    def __init__(self, folder: Path, targets: dict[str, int]) -> None:
        """`targets` are the ports of the jobs of the shipped configuration."""
        self.url = f"http://127.0.0.1:{free_port()}"
        self._folder = folder
        self._config = folder / "prometheus.yml"
        self._config.write_text(yaml.safe_dump(adapted(targets)), encoding="utf-8")

    @contextmanager
    def running(self, program: str) -> Iterator["Prometheus"]:
        """While the block runs."""
        command = [program, f"--config.file={self._config}", f"--storage.tsdb.path={self._folder / 'data'}"]
        log = self._folder / "prometheus.log"
        with process([*command, f"--web.listen-address={self.url.removeprefix('http://')}"], log):
            wait_until(self._ready, START_SECONDS, 0.5, log.read_text)
            yield self

    def ask(self, query: str) -> list[float]:
        """Return the values of a query, without NaN."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": query}, timeout=ANSWER_SECONDS).json()
        assert answer["status"] == "success", answer
        values = [float(sample["value"][1]) for sample in answer["data"]["result"]]
        return [value for value in values if value == value]

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/-/ready").status_code == 200
        except httpx.HTTPError:
            return False


def adapted(targets: dict[str, int]) -> dict[str, Any]:
    """Return the shipped configuration with other ports, and only the jobs in `targets`."""
    tree: dict[str, Any] = yaml.safe_load((SHIPPED / "prometheus.yml").read_text(encoding="utf-8"))
    tree["rule_files"] = [str(SHIPPED / name) for name in tree["rule_files"]]
    tree["scrape_configs"] = [job for job in tree["scrape_configs"] if job["job_name"] in targets]
    for job in tree["scrape_configs"]:
        job["static_configs"] = [{"targets": [f"127.0.0.1:{targets[job['job_name']]}"]}]
        job.pop("file_sd_configs", None)  # it may be of another Ray of this machine
    return tree

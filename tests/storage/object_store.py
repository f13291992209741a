"""An S3 API on loopback, served by moto in a process of its own, so that other processes reach it too."""

import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cxr_platform.storage.paths import parse_path
from tests.ports import free_port
from tests.waiting import wait_until

BUCKET = "images"
START_SECONDS = 180.0
"""Far more than moto takes."""
SERVER = "from moto.server import main; main(['-H', '{}', '-p', '{}'])"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def object_store() -> Iterator[dict[str, str]]:
    """What the environment of a process must have to reach the store, in which there is an empty bucket."""
    port = free_port()
    server = subprocess.Popen([sys.executable, "-c", SERVER.format("127.0.0.1", port)], stderr=subprocess.DEVNULL)
    try:
        _wait(server, port)
        request = urllib.request.Request(f"http://127.0.0.1:{port}/{BUCKET}", method="PUT")
        with urllib.request.urlopen(request, timeout=START_SECONDS):
            pass
        yield {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", **CREDENTIALS}
    finally:
        server.kill()
        server.wait()


def folder(name: str) -> Path:
    return parse_path(f"s3://{BUCKET}/{name}")


@contextmanager
def requests(where: Path) -> Iterator[list[tuple[str, str]]]:
    """Methods and paths of the requests that this process sends to the store of `where` within the block.

    Those of a lease are left out: they come by time, not by what the block does.
    """
    sent: list[tuple[str, str]] = []

    def note(request: Any, **_: object) -> None:
        if not urlsplit(request.url).path.endswith("/.lock"):
            sent.append((request.method, urlsplit(request.url).path))

    store = where.fs  # type: ignore[attr-defined]
    store.connect()
    store.s3.meta.events.register("before-send.s3", note)
    try:
        yield sent
    finally:
        store.s3.meta.events.unregister("before-send.s3", note)


def names(where: Path) -> list[str]:
    """Every file below `where`, relative."""
    base = where.path.rstrip("/")  # type: ignore[attr-defined]
    return sorted(name[len(base) + 1 :] for name in where.fs.find(base))  # type: ignore[attr-defined]


def _wait(server: "subprocess.Popen[bytes]", port: int) -> None:
    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=START_SECONDS):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    wait_until(lambda: server.poll() is not None or answers(), START_SECONDS, describe=lambda: "moto does not answer")
    assert server.poll() is None, f"moto ended with exit code {server.poll()}"

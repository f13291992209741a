"""The one place where Ray is started or joined."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from cxr_platform.errors import ConfigError

PROBE_SECONDS = 5.0


def connect(address: str | None = None, metrics_port: int | None = None) -> None:
    """Join the Ray cluster at `address`, or start a private one on this machine; does nothing when already connected.

    `None` means `RAY_ADDRESS`, which Ray sets for submitted jobs, and without it a private instance that ends with the
    process. `metrics_port` is where Prometheus finds the metrics of a private one (default: any free port). Raises
    `ConfigError` when no cluster answers.

    Ray reads `RAY_AUTH_MODE` when it is first imported, which may be before this: the verbs set it
    (`pipelines/command.py`), and setting it here as well would make client and server disagree.
    """
    import ray

    if ray.is_initialized():
        return
    where = address or os.environ.get("RAY_ADDRESS") or "local"
    private = {"include_dashboard": False, "_metrics_export_port": metrics_port}
    options = private if where == "local" else {"runtime_env": {"env_vars": _passed_on()}}
    try:
        _probe(where)
        ray.init(address=where, log_to_driver=False, logging_level="warning", **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"Expected a Ray cluster at {where!r}.",
            received=(str(error).strip().splitlines() or [type(error).__name__])[0].rstrip("."),
            advice="Start one with `ray start --head`, or leave the address out to use this machine alone.",
        ) from error


@contextmanager
def connection(address: str | None = None, metrics_port: int | None = None) -> Iterator[None]:
    """`connect` for the length of a block; when it was this block that connected, its end disconnects again.

    So a private instance gives its memory back, instead of idling until the process ends.
    """
    import ray

    joined = not ray.is_initialized()
    connect(address, metrics_port)
    try:
        yield
    finally:
        if joined:
            ray.shutdown()


def _passed_on() -> dict[str, str]:
    """What workers on other machines must know too; those of a private instance inherit it."""
    return {name: os.environ[name] for name in ("KERAS_BACKEND", "TF_CPP_MIN_LOG_LEVEL") if name in os.environ}


def _probe(where: str) -> None:
    """Ray itself retries an address at which nothing listens for ten minutes."""
    host, _, port = where.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=PROBE_SECONDS).close()

"""The one place where Ray is started or joined."""

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from cxr_platform.errors import ConfigError, first_line

JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray for the driver of a submitted job."""

PROBE_SECONDS = 5.0
NODE_GROUPS = "CXR_NODE_GROUPS"
"""Names what an autoscaler may start: a JSON list of `{"resources": {"CPU": 16, "GPU": 1}, "count": 64}`."""


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
        with _on_loopback() if where == "local" else nullcontext():
            ray.init(address=where, log_to_driver=False, logging_level="warning", **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"Expected a Ray cluster at {where!r}.",
            received=first_line(error),
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


@dataclass(frozen=True)
class Capacity:
    """What a cluster has, or may grow to: `cpus` and `gpus` in all; `nodes`, the resources of each kind of node."""

    cpus: float
    gpus: float
    nodes: tuple[Mapping[str, float], ...]

    @property
    def largest_cpus(self) -> float:
        """Processors of the node that has most; at least one, as Ray counts none on a head that only directs."""
        return max([1.0, *(node.get("CPU", 0.0) for node in self.nodes)])


def capacity(with_gpu: bool = False) -> Capacity:
    """Of the cluster that this process is connected to: its nodes, and those that its autoscaler may still start.

    With `with_gpu` only of the nodes that have one. Ray (2.60) does not say what an autoscaler may start, so that who
    sets one up says it in `CXR_NODE_GROUPS`; without, what is there counts. Work that needs more than is there at the
    moment waits, and that is what makes an autoscaler start nodes. Raises `ConfigError` for a variable of another form.
    """
    import ray

    alive = [(node["Resources"], 1) for node in ray.nodes() if node["Alive"]]
    alive, possible = (
        [(node, count) for node, count in nodes if count and (node.get("GPU", 0.0) > 0 or not with_gpu)]
        for nodes in (alive, _node_groups())
    )
    cpus, gpus = (max(_total(alive, name), _total(possible, name)) for name in ("CPU", "GPU"))
    return Capacity(cpus, gpus, tuple(node for node, _ in (*alive, *possible)))


def _node_groups() -> list[tuple[Mapping[str, float], int]]:
    """Resources and greatest number of each kind of node, as `CXR_NODE_GROUPS` says."""
    told = os.environ.get(NODE_GROUPS, "[]")
    try:
        return [({name: float(n) for name, n in g["resources"].items()}, int(g["count"])) for g in json.loads(told)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f'Expected {NODE_GROUPS} as [{{"resources": {{"CPU": 16, "GPU": 1}}, "count": 64}}, …].', received=told
        ) from error


def _total(nodes: list[tuple[Mapping[str, float], int]], name: str) -> float:
    return sum(resources.get(name, 0.0) * count for resources, count in nodes)


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Ray's servers that are started within listen on 127.0.0.1 alone.

    On Linux they listen on every interface, as the instance might become a cluster. The switch is the one that keeps
    them on loopback on other systems; the variable is for the processes that they start.
    """
    from ray._private import ray_constants

    name, before = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, ray_constants.ENABLE_RAY_CLUSTER
    kept = os.environ.get(name)
    os.environ[name], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
        if kept is None:
            del os.environ[name]
        else:
            os.environ[name] = kept


def in_sent_folder() -> bool:
    """Whether this is the driver of a job that was submitted with a working directory: a copy, which Ray removes."""
    return bool(_runtime_environment().get("working_dir"))


def _passed_on() -> dict[str, str]:
    """What workers on other machines must know too; those of a private instance inherit it.

    Not what the job that this process is in was submitted with: that they get anyhow, and Ray refuses to be told twice.
    """
    names = {"KERAS_BACKEND", "TF_CPP_MIN_LOG_LEVEL"} - _of_job().keys()
    return {name: os.environ[name] for name in names if name in os.environ}


def _of_job() -> Mapping[str, str]:
    """The environment variables of the submitted job whose driver this is; none where it is not one's."""
    variables: Mapping[str, str] = _runtime_environment().get("env_vars") or {}
    return variables


def _runtime_environment() -> Mapping[str, Any]:
    """What the job whose driver this is was submitted with; nothing where it is not one's."""
    job = json.loads(os.environ.get(JOB_CONFIG, "{}"))
    return job.get("runtime_env") or {}


def _probe(where: str) -> None:
    """Ray itself retries an address at which nothing listens for ten minutes."""
    host, _, port = where.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=PROBE_SECONDS).close()

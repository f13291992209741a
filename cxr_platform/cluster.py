"""Starting and joining Ray, and the resources of a cluster."""

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from cxr_platform.errors import ConfigError, first_line
from cxr_platform.ray_internals import job_environment, metrics_port_option, on_loopback

PROBE_SECONDS = 5.0
NODE_GROUPS = "CXR_NODE_GROUPS"
"""The nodes that an autoscaler may start: a JSON list of `{"resources": {"CPU": 16, "GPU": 1}, "count": 64}`."""


def connect(address: str | None = None, metrics_port: int | None = None) -> None:
    """Join the Ray cluster at `address`, or start a private one on this machine; do nothing if already connected.

    By default `address` is `RAY_ADDRESS`, which Ray sets for submitted jobs, or else a private instance that ends with
    the process. `metrics_port` is the Prometheus port of a private instance (default: any free port). Raises
    `ConfigError` if no cluster answers.

    `RAY_AUTH_MODE` is set by the verbs (`pipelines/command.py`), not here: Ray reads it on its first import, and
    setting it later would make client and server disagree.
    """
    import ray

    if ray.is_initialized():
        return
    where = address or os.environ.get("RAY_ADDRESS") or "local"
    private = {"include_dashboard": False, **metrics_port_option(metrics_port)}
    options = private if where == "local" else {"runtime_env": {"env_vars": _worker_variables()}}
    try:
        _probe(where)
        with on_loopback() if where == "local" else nullcontext():
            ray.init(address=where, log_to_driver=False, logging_level="warning", **options)
    except (OSError, RuntimeError, ValueError) as error:
        expected = (
            "Expected Ray to start on this machine." if where == "local" else f"Expected a Ray cluster at {where!r}."
        )
        raise ConfigError(expected, received=first_line(error), advice=_start_advice(where, error)) from error


def _start_advice(where: str, error: Exception) -> str:
    """Return what to do if Ray does not start or answer."""
    text = str(error)
    if "AF_UNIX" in text or "path too long" in text.lower():
        return "Set RAY_TMPDIR (or TMPDIR) to a shorter path, such as /tmp: the sockets of Ray lie below it."
    if (isinstance(error, OSError) and where == "local") or "auth_token" in text or "token" in text.lower():
        return (
            "HOME must be a folder that can be written, as Ray keeps its token in ~/.ray/auth_token; "
            "or set RAY_AUTH_TOKEN_PATH to the place of a token."
        )
    if where == "local":
        return "Check that the folder of temporary files (RAY_TMPDIR, TMPDIR) has room and can be written."
    return "Start one with `ray start --head`, or leave the address out to use this machine alone."


@contextmanager
def connection(address: str | None = None, metrics_port: int | None = None) -> Iterator[None]:
    """Connect (see `connect`) for the length of a block, and disconnect at its end if the block connected.

    A private instance then returns its memory instead of idling until the process ends.
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
    """The resources of a cluster, present or possible: `cpus` and `gpus` in total, and `nodes`, those of each node."""

    cpus: float
    gpus: float
    nodes: tuple[Mapping[str, float], ...]

    @property
    def largest_cpus(self) -> float:
        """Processors of the largest node; at least 1, as Ray counts none on a head node that runs no work."""
        return max([1.0, *(node.get("CPU", 0.0) for node in self.nodes)])

    def most_on_a_node(self, cpus: float, gpus: float) -> int:
        """Return how many tasks that need so many processors and GPUs a node runs at a time at most; at least 1."""
        return max([1, *(tasks_on_node(node, cpus, gpus) for node in self.nodes)])


def tasks_on_node(node: Mapping[str, float], cpus: float, gpus: float) -> int:
    """Return how many tasks that need so many processors and GPUs fit on a `node` of these resources.

    None has parts of two GPUs.
    """
    by_cpus = int(node.get("CPU", 0.0) / cpus + 1e-6)
    if not gpus:
        return by_cpus
    on_a_gpu = max(1, int(1 / gpus + 1e-6))
    return min(by_cpus, int(node.get("GPU", 0.0) / max(1.0, gpus) + 1e-6) * on_a_gpu)


def capacity(with_gpu: bool = False) -> Capacity:
    """Return the resources of the connected cluster: of its nodes, and of those that its autoscaler may start.

    With `with_gpu`, only nodes with a GPU count. Ray (2.60) does not state what an autoscaler may start; the
    environment variable `CXR_NODE_GROUPS` does. Work that needs more than the present nodes waits, which makes the
    autoscaler start others. Raises `ConfigError` if the variable has another form.
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
    """Return resources and largest number of each kind of node in `CXR_NODE_GROUPS`."""
    text = os.environ.get(NODE_GROUPS, "[]")
    try:
        return [({name: float(n) for name, n in g["resources"].items()}, int(g["count"])) for g in json.loads(text)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f'Expected {NODE_GROUPS} as [{{"resources": {{"CPU": 16, "GPU": 1}}, "count": 64}}, …].', received=text
        ) from error


def _total(nodes: list[tuple[Mapping[str, float], int]], name: str) -> float:
    return sum(resources.get(name, 0.0) * count for resources, count in nodes)


def runs_in_copy() -> bool:
    """Return True in the driver of a job that was submitted with a working directory: a copy, which Ray removes."""
    return bool(job_environment().get("working_dir"))


def _worker_variables() -> dict[str, str]:
    """Return the environment variables that workers on other machines need; those of a private instance inherit them.

    Variables that the job was submitted with are left out: workers have them, and Ray rejects a second definition.
    """
    of_job = job_environment().get("env_vars") or {}
    names = {"KERAS_BACKEND", "TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS"} - of_job.keys()
    return {name: os.environ[name] for name in names if name in os.environ}


def _probe(where: str) -> None:
    """Raise `OSError` if nothing listens at the address; Ray itself would retry for ten minutes."""
    host, _, port = where.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=PROBE_SECONDS).close()

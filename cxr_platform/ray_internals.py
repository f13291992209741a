"""What the product uses of Ray (2.60) beyond its public API: each name once, with the reason.

`tests/test_ray_internals.py` fails when a version of Ray removes one or changes its effect, and when another module
uses anything private.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set for the driver of a submitted job. The public runtime context states the job's runtime environment only once the
driver is connected, but `ray.init` rejects variables that the job was submitted with."""

SERVE_MIDDLEWARE = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
"""A function that returns middleware for Serve's proxies. Public are middlewares of replicas only, which a request
reaches after its body was read."""

PROXY_READY_SECONDS = "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S"
"""Time after which Serve kills a proxy that has not started; there is no option in `serve.start`."""

DIRECT_OBJECT_BYTES = "RAY_max_direct_call_object_size"
SPILL_FOLDER = "RAY_object_spilling_directory"
"""Settings of Ray's core for which Serve has no options: objects of up to so many bytes travel within the request, and
where the object store spills to when it is full."""

NO_TUNE_TABLES = {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_AIR_NEW_OUTPUT": "0"}
"""Turn off Tune's result files, and the tables and banners for which `verbose=0` has no effect in its newer output."""

TRAIN_POLL_SECONDS = "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"
"""Time between two questions of Ray Train to its workers; `RunConfig` has no such field."""


def metrics_port_option(port: int | None) -> dict[str, Any]:
    """Return the argument of `ray.init` for the Prometheus port of a private instance, for which no public one exists.

    `ray start` has it as --metrics-export-port.
    """
    return {"_metrics_export_port": port}


@contextmanager
def on_loopback() -> Iterator[None]:
    """Make the servers of Ray that start within the block listen on 127.0.0.1 only.

    On Linux, Ray listens on every interface, because the instance might become a cluster; there is no public option,
    and `_node_ip_address="127.0.0.1"` is replaced by another address of the machine. The constant keeps Ray on loopback
    on other systems; the environment variable sets it in processes that Ray starts.
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


def job_environment() -> Mapping[str, Any]:
    """Return the runtime environment of the submitted job whose driver this is; empty in other processes."""
    job = json.loads(os.environ.get(JOB_CONFIG, "{}"))
    return job.get("runtime_env") or {}


def data_parallel_trainer() -> Any:
    """Return Ray Train's trainer without a framework.

    It is for developers of trainers and not exported by `ray.train`. Those that are set up communication between
    workers, of which the champion has one.
    """
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    return DataParallelTrainer

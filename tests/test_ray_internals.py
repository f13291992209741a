"""Whether what is not public in Ray is still there, has the effect that is relied on, and is used in one module."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cxr_platform import ray_internals
from cxr_platform.training.engine_ray import NO_TUNE_STATE
from tests.conftest import REPOSITORY
from tests.ports import free_port
from tests.test_layers import imports, modules

PRIVATE_PARTS = ("_private", "_internal", "_raylet", "_common", "execution", "impl", "v2")
"""Packages of Ray whose content is not for users."""


def private_use(source: str) -> list[str]:
    """What a module uses of Ray that is not public: modules by name, arguments and variables by their form."""
    tree = ast.parse(source)
    used = [name for name in imports(tree) if name.startswith("ray.") and set(name.split(".")) & {*PRIVATE_PARTS}]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("ray._"):
            used.append(ast.unparse(node))
        if isinstance(node, ast.Constant) and node.value in NAMES:
            used.append(node.value)
    return used


NAMES = {
    *(value for name, value in vars(ray_internals).items() if name.isupper() and isinstance(value, str)),
    *ray_internals.NO_TUNE_TABLES,
    *ray_internals.metrics_port_option(1),
}


@pytest.mark.parametrize(
    "module", [*modules("cxr_platform"), *modules("pipelines")], ids=lambda path: str(path.relative_to(REPOSITORY))
)
def test_only_one_module_uses_what_is_private_in_ray(module: Path) -> None:
    used = private_use(module.read_text(encoding="utf-8"))
    assert bool(used) == (module.name == "ray_internals.py"), used


def test_private_use_would_be_seen() -> None:
    assert private_use("def f():\n    from ray._private import worker")
    assert private_use("import ray\nray._private.worker._global_node")
    assert private_use("from ray.train.v2.api import config")
    assert private_use("options = {'_metrics_export_port': 1}")
    assert not private_use("from ray import tune\nfrom ray.tune.experiment import Trial")


OURS = {
    *ray_internals.NO_TUNE_TABLES,
    ray_internals.TRAIN_POLL_SECONDS,
    ray_internals.SERVE_MIDDLEWARE,
    ray_internals.PROXY_READY_SECONDS,
    ray_internals.DIRECT_OBJECT_BYTES,
    ray_internals.SPILL_FOLDER,
    ray_internals.JOB_CONFIG,
}


def answer_of_a_process(code: str, **environment: str) -> list[Any]:
    """What `code` prints as JSON at last, in a process of its own with `environment`: Ray reads much when imported.

    Without the variables that this process was given by what earlier tests ran in it.
    """
    kept = {name: value for name, value in os.environ.items() if name not in OURS}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env={**kept, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


PRIVATE_INSTANCE = """
import json, ray
from cxr_platform.cluster import connect
connect(metrics_port=PORT)
(node,) = ray.nodes()
job = ray.get_runtime_context().runtime_env
print(json.dumps([node["NodeManagerAddress"], node["MetricsExportPort"], job.get("env_vars")]))
"""


@pytest.mark.ray
def test_a_private_instance_is_on_loopback_with_its_port_and_reads_what_the_job_was_submitted_with() -> None:
    port = free_port()
    submitted = json.dumps({"runtime_env": {"env_vars": {"OF_THE_JOB": "1"}}})
    code = PRIVATE_INSTANCE.replace("PORT", str(port))
    answer = answer_of_a_process(code, **{ray_internals.JOB_CONFIG: submitted})
    assert answer == ["127.0.0.1", port, {"OF_THE_JOB": "1"}]


def test_the_environment_is_as_before_after_the_instance_has_started(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import ray_constants

    name = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    for kept in (None, "1"):
        if kept is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, kept)
        with ray_internals.on_loopback():
            assert (os.environ[name], ray_constants.ENABLE_RAY_CLUSTER) == ("0", False)
        assert os.environ.get(name) == kept
        assert ray_constants.ENABLE_RAY_CLUSTER


def test_serve_reads_its_variables() -> None:
    variables = {ray_internals.SERVE_MIDDLEWARE: "json:dumps", ray_internals.PROXY_READY_SECONDS: "61"}
    code = """
import json
from ray.serve._private import constants, http_util
seconds = constants.PROXY_READY_CHECK_TIMEOUT_S
print(json.dumps([http_util.RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH, seconds]))
"""
    assert answer_of_a_process(code, **variables) == ["json:dumps", 61.0]


CORE = """
import json, os, sys, ray
from ray.experimental import get_object_locations
from cxr_platform.ray_internals import SPILL_FOLDER, on_loopback
with on_loopback():
    ray.init(include_dashboard=False, object_store_memory=80 * 2**20, log_to_driver=False, logging_level="error")
made = [ray.remote(lambda size: bytes(size)).remote(size * 2**20) for size in (3, 5)]
ray.wait(made, num_returns=2)
places = get_object_locations(made)
kept = [ray.put(bytes(20 * 2**20)) for _ in range(6)]
print(json.dumps([[bool(places[one]["node_ids"]) for one in made], bool(os.listdir(os.environ[SPILL_FOLDER]))]))
"""


@pytest.mark.ray
def test_the_core_sends_small_objects_directly_and_spills_to_the_stated_folder(tmp_path: Path) -> None:
    """An object that is sent directly is on no node; without the variable 100 KB would go through the object store."""
    variables = {ray_internals.DIRECT_OBJECT_BYTES: str(4 * 2**20), ray_internals.SPILL_FOLDER: str(tmp_path)}
    assert answer_of_a_process(CORE, **variables) == [[False, True], True]


TUNE = """
import json
from ray.train.v2._internal.constants import HEALTH_CHECK_INTERVAL_S_ENV_VAR
from ray.tune.experimental.output import get_air_verbosity
from ray.tune.utils.callback import _create_default_callbacks
callbacks = _create_default_callbacks([], air_verbosity=get_air_verbosity(0))
print(json.dumps([HEALTH_CHECK_INTERVAL_S_ENV_VAR, sorted(type(one).__name__ for one in callbacks)]))
"""


def test_tune_and_train_read_their_variables() -> None:
    poll, files = answer_of_a_process(TUNE)
    assert poll == ray_internals.TRAIN_POLL_SECONDS
    assert {"CSVLoggerCallback", "JsonLoggerCallback"} <= {*files}
    assert "TrialProgressCallback" not in files
    _, files = answer_of_a_process(TUNE, **ray_internals.NO_TUNE_TABLES)
    assert files == ["TrialProgressCallback"], "silent, as `verbose` is 0"


def test_tune_knows_how_often_it_writes_its_state() -> None:
    """A version without the variable would write the state of all trials again and again."""
    code = """
import inspect, json
from ray.tune.execution.tune_controller import TuneController
print(json.dumps(["TUNE_GLOBAL_CHECKPOINT_S" in inspect.getsource(TuneController)]))
"""
    assert answer_of_a_process(code) == [True]
    assert [*NO_TUNE_STATE] == ["TUNE_GLOBAL_CHECKPOINT_S"]


@pytest.mark.ray
def test_a_trainer_without_a_framework_runs_one_worker(tmp_path: Path) -> None:
    from ray import train

    from cxr_platform.cluster import connect

    connect()
    run = train.RunConfig(storage_path=str(tmp_path))
    scaling = train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1})
    trainer = ray_internals.data_parallel_trainer()
    assert trainer(lambda _: 7, train_loop_config={}, scaling_config=scaling, run_config=run).fit().return_value == 7

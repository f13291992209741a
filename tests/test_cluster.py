import json
import socket
from types import SimpleNamespace

import pytest
import ray

from cxr_platform import cluster
from cxr_platform.cluster import Capacity, capacity, connect, connection
from cxr_platform.errors import ConfigError


def test_an_address_at_which_nothing_listens_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # other tests of this process may be connected
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConfigError, match=f"Ray cluster at '127.0.0.1:{port}'"):
        connect(f"127.0.0.1:{port}")


@pytest.mark.ray
def test_a_connection_that_was_there_before_is_left_open() -> None:
    connect()
    with connection():
        assert ray.is_initialized()
    assert ray.is_initialized()


def test_capacity_counts_nodes_that_are_there_and_those_that_an_autoscaler_may_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    head, worker, lost = {"CPU": 0.0}, {"CPU": 4.0, "GPU": 1.0}, {"CPU": 99.0}
    nodes = [{"Alive": True, "Resources": head}, {"Alive": True, "Resources": worker}]
    monkeypatch.setattr(ray, "nodes", lambda: [*nodes, {"Alive": False, "Resources": lost}])
    assert capacity() == Capacity(4.0, 1.0, (head, worker))

    groups = [SimpleNamespace(resources=worker, max_count=8), SimpleNamespace(resources={"CPU": 32.0}, max_count=0)]
    config = SimpleNamespace(node_group_configs=groups)
    monkeypatch.setattr(ray._private.state.state, "get_cluster_config", lambda: config)
    monkeypatch.setattr(ray, "nodes", lambda: nodes[:1])
    found = capacity()
    assert (found.cpus, found.cards, found.largest_cpus) == (32.0, 8.0, 4.0)


def test_a_head_without_processors_leaves_a_trial_one() -> None:
    assert Capacity(0.0, 0.0, ({"CPU": 0.0},)).largest_cpus == 1.0


def test_what_a_job_was_submitted_with_is_not_passed_on_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    assert set(cluster._passed_on()) == {"KERAS_BACKEND", "TF_CPP_MIN_LOG_LEVEL"}
    job = {"runtime_env": {"env_vars": {"KERAS_BACKEND": "tensorflow"}}, "metadata": {}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(job))
    assert set(cluster._passed_on()) == {"TF_CPP_MIN_LOG_LEVEL"}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"runtime_env": None}))
    assert set(cluster._passed_on()) == {"KERAS_BACKEND", "TF_CPP_MIN_LOG_LEVEL"}

import json

import pytest
import ray

from cxr_platform import cluster
from cxr_platform.cluster import Capacity, capacity, connect, connection
from cxr_platform.errors import ConfigError
from cxr_platform.ray_internals import JOB_CONFIG
from tests.ports import free_port


def test_an_address_at_which_nothing_listens_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # other tests of this process may be connected
    port = free_port()
    with pytest.raises(ConfigError, match=f"Ray cluster at '127.0.0.1:{port}'"):
        connect(f"127.0.0.1:{port}")


@pytest.mark.ray
def test_an_earlier_connection_stays_open() -> None:
    connect()
    with connection():
        assert ray.is_initialized()
    assert ray.is_initialized()


def test_capacity_counts_present_nodes_and_those_that_an_autoscaler_may_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    head, worker, lost = {"CPU": 0.0}, {"CPU": 4.0, "GPU": 1.0}, {"CPU": 99.0}
    nodes = [{"Alive": True, "Resources": head}, {"Alive": True, "Resources": worker}]
    monkeypatch.setattr(ray, "nodes", lambda: [*nodes, {"Alive": False, "Resources": lost}])
    monkeypatch.delenv(cluster.NODE_GROUPS, raising=False)
    assert capacity() == Capacity(4.0, 1.0, (head, worker))

    groups = [{"resources": worker, "count": 8}, {"resources": {"CPU": 32}, "count": 1}]
    monkeypatch.setenv(cluster.NODE_GROUPS, json.dumps([*groups, {"resources": {"CPU": 96}, "count": 0}]))
    monkeypatch.setattr(ray, "nodes", lambda: nodes[:1])
    total, with_gpu = capacity(), capacity(with_gpu=True)
    assert (total.cpus, total.gpus, total.largest_cpus) == (64.0, 8.0, 32.0)
    assert (with_gpu.cpus, with_gpu.gpus, with_gpu.largest_cpus) == (32.0, 8.0, 4.0)


@pytest.mark.parametrize(
    "text", ["64", "[64]", '[{"resources": {"CPU": 4}}]', '[{"resources": {"CPU": "x"}, "count": 1}]']
)
def test_node_groups_of_another_form_are_an_error_that_shows_the_form(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(ray, "nodes", list)
    monkeypatch.setenv(cluster.NODE_GROUPS, text)
    with pytest.raises(ConfigError, match=r'CXR_NODE_GROUPS as .*"count": 64.*Received'):
        capacity()


def test_a_job_with_a_working_directory_runs_in_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(JOB_CONFIG, raising=False)
    assert not cluster.runs_in_copy()
    for runtime_env, sent in ((None, False), ({"env_vars": {}}, False), ({"working_dir": "gcs://x.zip"}, True)):
        monkeypatch.setenv(JOB_CONFIG, json.dumps({"runtime_env": runtime_env}))
        assert cluster.runs_in_copy() is sent


def test_the_largest_node_has_at_least_one_processor() -> None:
    assert Capacity(0.0, 0.0, ({"CPU": 0.0},)).largest_cpus == 1.0


@pytest.mark.parametrize(
    ("cpus", "gpus", "most"),
    [(2.0, 0.0, 8), (1.0, 0.25, 4), (8.0, 0.25, 2), (32.0, 0.0, 1), (0.1, 0.1, 10)],
)
def test_the_most_tasks_on_a_node_are_those_of_the_largest_that_there_may_be(
    cpus: float, gpus: float, most: int
) -> None:
    head, worker = {"CPU": 0.0}, {"CPU": 16.0, "GPU": 1.0}
    assert Capacity(16.0, 1.0, (head, worker)).most_on_a_node(cpus, gpus) == most
    assert Capacity(0.0, 0.0, (head,)).most_on_a_node(cpus, gpus) == 1


def test_variables_of_the_job_are_not_passed_to_its_workers_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    assert set(cluster._worker_variables()) == {"KERAS_BACKEND", "TF_CPP_MIN_LOG_LEVEL"}
    job = {"runtime_env": {"env_vars": {"KERAS_BACKEND": "tensorflow"}}, "metadata": {}}
    monkeypatch.setenv(JOB_CONFIG, json.dumps(job))
    assert set(cluster._worker_variables()) == {"TF_CPP_MIN_LOG_LEVEL"}
    monkeypatch.setenv(JOB_CONFIG, json.dumps({"runtime_env": None}))
    assert set(cluster._worker_variables()) == {"KERAS_BACKEND", "TF_CPP_MIN_LOG_LEVEL"}


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (OSError("AF_UNIX path length cannot exceed 107 bytes: /tmp/x"), "RAY_TMPDIR"),
        (PermissionError(13, "Permission denied", "/nowhere/.ray/auth_token"), "HOME"),
        (RuntimeError("no room"), "TMPDIR"),
    ],
)
def test_the_advice_fits_why_ray_does_not_start(monkeypatch: pytest.MonkeyPatch, error: Exception, advice: str) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(ConfigError, match="Ray to start on this machine") as caught:
        connect()
    assert advice in str(caught.value)
    assert "ray start --head" not in str(caught.value)

"""Requests that `cxr serve` refuses before it starts. Serving itself is tested in tests/serving/test_deployment."""

import importlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import ray
import ray.serve

from cxr_platform import cluster
from cxr_platform.registry.signing import generate_keys
from cxr_platform.serving import deployment, stopping
from cxr_platform.serving.api_keys import parse_keys
from cxr_platform.serving.proxy_middleware import ProxyMiddleware
from pipelines import serve
from pipelines.options import parse_request
from tests.serving.builders import registry_with_champion
from tests.serving.certificates import write_certificate


@pytest.fixture(autouse=True)
def _without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CXR_API_KEYS", "CXR_API_KEYS_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7"])
def test_without_keys_it_listens_on_loopback_only(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve.main(["--host", host]) == 2
    assert "API keys" in capsys.readouterr().err


def test_a_server_beyond_loopback_without_tls_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "keys").write_text("a-key-of-many-characters", encoding="utf-8")
    cert, key = write_certificate(tmp_path)
    arguments = ["--registry", str(tmp_path / "registry"), "--keys", str(tmp_path / "keys")]
    warning = "Keys and images travel unencrypted to 0.0.0.0:8000"
    for words, warned in ([], False), (["--host", "0.0.0.0"], True):
        assert serve.main([*arguments, *words]) == 2
        assert (warning in capsys.readouterr().err) == warned
    assert serve.main([*arguments, "--host", "0.0.0.0", "--tls-cert", str(cert), "--tls-key", str(key)]) == 2
    assert warning not in capsys.readouterr().err


def test_a_request_log_that_cannot_be_written_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {**os.environ})
    registry = registry_with_champion(tmp_path / "registry")
    arguments = ["--registry", str(registry.root), "--request-log", str(tmp_path / "none" / "log")]
    assert serve.main(arguments) == 2
    assert "Expected to be able to write the request log" in capsys.readouterr().err
    assert serve.main([*arguments, "--address", "127.0.0.1:9"]) == 2
    assert "Expected no --request-log for the running Ray cluster '127.0.0.1:9'" in capsys.readouterr().err


def test_a_version_that_is_not_signed_is_not_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    registry = registry_with_champion(tmp_path / "registry")
    _, public = generate_keys(tmp_path / "ours")
    assert serve.main(["--registry", str(registry.root), "--public-key", str(public)]) == 2
    assert "Expected a champion" in capsys.readouterr().err
    assert serve.main(["--registry", str(registry.root), "--public-key", str(tmp_path / "none")]) == 2
    assert "Expected a public key of minisign" in capsys.readouterr().err


def test_a_missing_file_of_keys_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve.main(["--keys", str(tmp_path / "none")]) == 2
    assert "readable file of API keys" in capsys.readouterr().err


def test_the_error_of_a_missing_champion_says_how_to_make_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert serve.main(["--registry", str(tmp_path / "registry")]) == 2
    assert "make champion" in capsys.readouterr().err


def test_a_metrics_port_in_use_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    registry = registry_with_champion(tmp_path / "registry")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert serve.main(["--registry", str(registry.root), "--metrics-port", port]) == 2
    assert f"Expected port {port} to be free for Prometheus" in capsys.readouterr().err


def test_on_a_cluster_the_metrics_port_is_not_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # other tests of this process may be connected
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    monkeypatch.setattr(serve, "prepare_environment", lambda: None)  # of this process, which goes on
    registry = registry_with_champion(tmp_path / "registry")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert serve.main(["--registry", str(registry.root), "--metrics-port", port]) == 2
    assert "Expected a Ray cluster at '127.0.0.1:9'" in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--keys", "keys"], ["--host", "0.0.0.0"], ["--keys", "keys", "--host", "::"]])
@pytest.mark.parametrize("variable", [False, True], ids=["--address", "RAY_ADDRESS"])
def test_keys_and_host_are_refused_for_a_running_cluster(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    variable: bool,
) -> None:
    """The variables of this process do not reach the nodes of a cluster either."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "keys").write_text("a-key-of-many-characters", encoding="utf-8")
    monkeypatch.setenv("CXR_API_KEYS", "a-key-of-many-characters")
    if variable:
        monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    else:
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        options = [*options, "--address", "127.0.0.1:9"]
    assert serve.main(options) == 2
    error = capsys.readouterr().err
    assert "Expected neither --keys nor a --host other than loopback for the running Ray cluster '127.0.0.1:9'" in error
    assert "Start its nodes with CXR_API_KEYS_FILE=/path" in error
    assert "CXR_API_KEYS_FILE" not in os.environ


def test_a_private_ray_is_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert requested().cluster is None
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert requested().cluster is None
    assert requested("--address", "auto").cluster == "auto"


def requested(*words: str) -> serve.ServeRequest:
    return parse_request(serve.ServeRequest, serve.parser(), words)


@pytest.mark.parametrize(
    ("words", "replicas"),
    [
        ([], (2, 4)),
        (["--min-replicas", "6"], (6, 6)),
        (["--max-replicas", "1"], (1, 1)),
        (["--max-replicas", "9"], (2, 9)),
        (["--min-replicas", "3", "--max-replicas", "2"], (3, 2)),  # refused by the application
        (["--min-replicas", "0"], (0, 4)),  # refused as well
    ],
)
def test_a_number_of_replicas_that_is_given_is_passed_on(words: list[str], replicas: tuple[int, int]) -> None:
    arguments = serve.application_arguments(requested(*words), cores=4)
    assert (arguments["min_replicas"], arguments["max_replicas"]) == replicas


def test_the_clients_that_are_served_are_named() -> None:
    assert serve.clients(None, None) == "clients on this machine, without API keys"
    assert serve.clients(None, parse_keys(["x" * 16], "")) == "clients with an API key"
    assert "if its nodes have any" in serve.clients("auto", None)


def test_variables_of_serve_are_set_unless_the_user_has_set_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"RAY_max_direct_call_object_size": "7"})
    serve.prepare_environment()
    module, _, name = os.environ["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"].partition(":")
    (guard,) = getattr(importlib.import_module(module), name)()
    assert guard.cls is ProxyMiddleware
    assert os.environ == {**os.environ, "RAY_max_direct_call_object_size": "7"}


@pytest.mark.parametrize(
    ("options", "drained", "expected"),
    [
        ([], True, ["connect", "start", "run", "delete", "disconnect", "end 0"]),
        ([], False, ["connect", "start", "run", "delete", "disconnect", "end 0"]),
        (["--address", "127.0.0.1:9"], True, ["connect", "start", "run", "shutdown", "disconnect"]),
    ],
    ids=["private", "private, slow request", "cluster"],
)
def test_the_server_ends_in_the_order_that_loses_no_request(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    drained: bool,
    expected: list[str],
) -> None:
    """The stand-ins for Ray record what is called."""
    calls: list[str] = []

    @contextmanager
    def connection(*_: object) -> Iterator[None]:
        calls.append("connect")
        yield
        calls.append("disconnect")

    def drain(delete: Callable[[], object]) -> bool:
        delete()
        return drained

    stopped = threading.Event()
    stopped.set()
    for target, name, function in (
        (os, "environ", {**os.environ}),
        (cluster, "connection", connection),
        (ray, "is_initialized", lambda: False),
        (ray, "cluster_resources", lambda: {"CPU": 2.0}),
        (ray.serve, "start", lambda **_: calls.append("start")),
        (ray.serve, "run", lambda *_, **__: calls.append("run")),
        (ray.serve, "delete", lambda _: calls.append("delete")),
        (ray.serve, "shutdown", lambda: calls.append("shutdown")),
        (deployment, "build", lambda _: None),
        (stopping, "stop_event", lambda _: stopped),
        (stopping, "drain", drain),
        (stopping, "end", lambda code: calls.append(f"end {code}")),
    ):
        monkeypatch.setattr(target, name, function)
    registry = registry_with_champion(tmp_path / "registry")
    assert serve.main(["--registry", str(registry.root), "--metrics-port", "0", *options]) == 0
    assert calls == expected
    assert ("still under way" in capsys.readouterr().err) == (not drained)

"""What `cxr serve` refuses before it starts anything. That it serves is the matter of tests/serving/test_deployment."""

import importlib
import os
import socket
from pathlib import Path

import pytest
import ray

from cxr_platform.registry.promotion import promote
from cxr_platform.serving.champion_watcher import Follower
from cxr_platform.serving.keys import Keys
from cxr_platform.serving.proxy_middleware import Front
from cxr_platform.serving.screener import Screener
from pipelines import serve
from tests.serving.builders import filler, registry_with_champion


@pytest.fixture(autouse=True)
def _without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CXR_API_KEYS", "CXR_API_KEYS_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7"])
def test_without_keys_it_does_not_listen_beyond_loopback(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve.main(["--host", host]) == 2
    assert "API keys" in capsys.readouterr().err


def test_a_missing_file_of_keys_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve.main(["--keys", str(tmp_path / "none")]) == 2
    assert "readable file of API keys" in capsys.readouterr().err


def test_without_a_champion_it_says_how_to_make_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve.main(["--registry", str(tmp_path / "registry")]) == 2
    assert "make champion" in capsys.readouterr().err


def test_a_changed_champion_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    registry = registry_with_champion(tmp_path / "registry")
    (registry.root / "v1" / "model.onnx").write_bytes(b"")
    assert serve.main(["--registry", str(registry.root)]) == 2
    assert "v1, broken or changed" in capsys.readouterr().err


def test_over_a_broken_champion_it_starts_as_a_replica_does_with_the_one_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = registry_with_champion(tmp_path / "registry")
    registry.add(filler(seed=1))
    promote(registry, "v2", force=True, lead_seconds=0)
    (registry.root / "v2" / "model.onnx").write_bytes(b"")
    replica = Follower(registry, lambda folder, bundle: Screener(folder, bundle, threads=1))
    assert serve._first(registry.root) == replica.current[0] == "v1"
    assert "v2 cannot be loaded: v1 answers. See: cxr registry verify." in capsys.readouterr().err


def test_a_metrics_port_that_is_taken_is_told_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = registry_with_champion(tmp_path / "registry")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert serve.main(["--registry", str(registry.root), "--metrics-port", port]) == 2
    assert f"Expected port {port} to be free for Prometheus" in capsys.readouterr().err


def test_on_a_cluster_the_metrics_port_is_the_clusters_own(
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
def test_a_cluster_is_given_no_keys_that_its_proxies_would_never_see(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    variable: bool,
) -> None:
    """Neither with an option nor with a variable of this process, which is not that of the nodes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "keys").write_text("a key of many characters", encoding="utf-8")
    monkeypatch.setenv("CXR_API_KEYS", "a key of many characters")
    if variable:
        monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    else:
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        options = [*options, "--address", "127.0.0.1:9"]
    assert serve.main(options) == 2
    said = capsys.readouterr().err
    assert "Expected neither --keys nor a --host beyond loopback for a Ray that runs already, at '127.0.0.1:9'" in said
    assert "Its nodes need CXR_API_KEYS_FILE=/path" in said
    assert "CXR_API_KEYS_FILE" not in os.environ


def test_a_private_ray_is_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert serve._cluster(serve._parser().parse_args([])) is None
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert serve._cluster(serve._parser().parse_args([])) is None
    assert serve._cluster(serve._parser().parse_args(["--address", "auto"])) == "auto"


def test_who_is_served_is_said_as_it_is() -> None:
    assert serve._who(None, None) == "this machine, without keys"
    assert serve._who(None, Keys((bytes(32),))) == "whoever has a key"
    assert "if its environment names any" in serve._who("auto", None)


def test_the_proxies_are_told_of_the_guard_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"RAY_max_direct_call_object_size": "7"})
    serve.prepare_environment()
    module, _, name = os.environ["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"].partition(":")
    (guard,) = getattr(importlib.import_module(module), name)()
    assert guard.cls is Front
    assert os.environ == {**os.environ, "RAY_max_direct_call_object_size": "7"}

import json

import pytest

from cxr_platform.registry.bundle import ONNX
from cxr_platform.registry.store import Registry
from cxr_platform.storage.paths import parse_path
from pipelines.registry import main
from tests.pipelines.registry_verb import run


def test_a_refused_promotion_prints_the_figures_and_is_exit_code_2(registry, capsys):
    assert run(registry, "promote", "v3") == 2
    output = capsys.readouterr()

    assert "79.00 (77.00 to 81.00) (worse)" in output.out
    assert "79.00" in output.err
    assert "--force" in output.err
    assert registry.champion() == "v1"

    assert run(registry, "promote", "v3", "--force", "--lead", "0", "--json") == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["event"]["forced"] is True
    assert tree["event"]["at"] == tree["event"]["effective_at"]
    assert tree["comparison"]["reasons"]


def test_verify_is_exit_code_2_if_a_byte_has_changed(registry, capsys):
    assert run(registry, "verify") == 0
    with (registry.root / "v2" / ONNX).open("r+b") as stream:
        stream.write(b"!")

    assert run(registry, "verify") == 2
    assert "model.onnx" in capsys.readouterr().out
    assert run(registry, "verify", "champion") == 0
    capsys.readouterr()
    assert run(registry, "verify", "v2", "--json") == 2
    assert json.loads(capsys.readouterr().out)["broken"] == 1


@pytest.mark.parametrize("words", [["list"], ["show"], ["promote", "v1"], ["rollback"], ["verify"]])
def test_a_missing_registry_is_an_error_and_not_created(tmp_path, capsys, words):
    assert run(Registry(tmp_path / "absent"), *words) == 2
    assert "Expected a registry at" in capsys.readouterr().err
    assert not (tmp_path / "absent").exists()


def test_the_error_of_a_truncated_registry_names_the_backup(registry, capsys):
    state = registry.root / "registry.json"
    state.write_bytes(state.read_bytes()[:-9])

    assert run(registry, "list") == 2
    assert "registry.json.previous" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:.*[Ff]ile.?[Ss]tore.*", "ignore:.*filesystem.*")
def test_register_names_the_store_of_a_registry(registry, tmp_path, capsys, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="the extra `tracking` is not installed")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    place = "memory://register/registry"
    store = parse_path(place)
    store.fs.put(str(registry.root), store.path, recursive=True)
    words = ["register", "v1", "--model", "screening", "--registry", place]
    assert main(words) == 2
    assert "Expected a place of MLflow" in capsys.readouterr().err
    assert main([*words, "--tracking-uri", str(tmp_path / "mlflow")]) == 0
    client = mlflow.MlflowClient(tracking_uri=(tmp_path / "mlflow").as_uri())
    assert client.get_model_version("screening", "1").tags["cxr.place"] == f"{place}/v1"

import json
import shutil

import pytest

from cxr_platform.registry.bundle import ONNX
from cxr_platform.registry.promotion import promote
from cxr_platform.registry.store import Registry
from pipelines.registry import main
from tests.pipelines.registry_verb import run
from tests.registry.builders import filler


def test_list_shows_every_version_with_its_figures(registry, capsys):
    assert run(registry, "list") == 0
    output = capsys.readouterr().out

    assert "v1 champion" in output
    assert "v2 champion" not in output
    assert "85.00" in output
    assert "(83.00 to 87.00)" in output
    assert "SYNTHETIC" not in output


def test_list_as_json(registry, capsys):
    (registry.root / "v2" / ONNX).write_bytes(b"x")
    assert run(registry, "list", "--json") == 0
    tree = json.loads(capsys.readouterr().out)

    assert (tree["champion"], tree["serving"]) == ("v1", "v1")
    assert [(v["version"], v["champion"], v["problem"] is None) for v in tree["versions"]] == [
        ("v1", True, True),
        ("v2", False, False),
        ("v3", False, True),
    ]
    assert tree["versions"][0]["metrics"]["accuracy_7_class"]["value"] == 80
    assert [event["action"] for event in tree["history"]] == ["promote"]


def test_list_shows_the_version_served_until_the_switch(registry, capsys):
    promote(registry, "v2", lead_seconds=3600)
    assert run(registry, "list") == 0

    assert "Champion: v2, from" in (output := capsys.readouterr().out)
    assert "v1 is served until then" in output


def test_list_marks_unreadable_versions_and_synthetic_images(registry, capsys):
    shutil.rmtree(registry.root / "v2")
    registry.add(filler(synthetic=True))
    assert run(registry, "list") == 0
    output = capsys.readouterr().out

    assert "cannot be read" in output
    assert "SYNTHETIC" in output


def test_list_of_an_empty_registry_says_how_to_make_a_version(tmp_path, capsys):
    assert run(Registry(tmp_path), "list") == 0
    assert "make champion" in capsys.readouterr().out


def test_show_is_of_the_champion_by_default(registry, capsys):
    assert run(registry, "show") == 0
    output = capsys.readouterr().out
    assert "v1" in output
    assert "not for diagnosis" in output
    assert "85.00 (80.00 to 90.00) called positive, 6.00 negative" in output
    assert "5.00 (4.00 to 6.00) of all images" in output
    assert "positive from 0.3000 on, negative below 0.2000" in output

    assert run(registry, "show", "v2", "--json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads((registry.root / "v2" / "bundle.json").read_text())


def test_promote_prints_the_figures_of_both_versions(registry, capsys):
    assert run(registry, "promote", "v2", "--lead", "3600") == 0
    output = capsys.readouterr().out

    assert "80.00" in output
    assert "85.00" in output
    assert "v2 is no worse than v1" in output
    assert "v1 is served until then" in output
    assert registry.champion() == "v2"


def test_a_rollback_before_the_switch_keeps_the_version_that_is_served(registry, capsys):
    assert run(registry, "promote", "v2", "--lead", "3600") == 0
    capsys.readouterr()
    assert run(registry, "rollback") == 0
    assert capsys.readouterr().out == "Champion: v1, which is served now.\n"


def test_an_unreadable_champion_is_replaced_only_with_force(registry, capsys):
    shutil.rmtree(registry.root / "v1")
    assert run(registry, "promote", "v2") == 2
    assert "cannot be read" in capsys.readouterr().err

    assert run(registry, "promote", "v2", "--force") == 0
    assert "v1 cannot be read: nothing was compared" in capsys.readouterr().out


def test_rollback_returns_to_the_previous_champion_once(registry, capsys):
    run(registry, "promote", "v2")
    assert run(registry, "rollback") == 0
    assert "Champion: v1" in capsys.readouterr().out
    assert run(registry, "rollback", "--json") == 2
    assert "before v1" in capsys.readouterr().err


def test_rollback_as_json(registry, capsys):
    promote(registry, "v2")
    assert run(registry, "rollback", "--json", "--lead", "3") == 0
    assert json.loads(capsys.readouterr().out)["event"]["version"] == "v1"


def test_a_name_with_brackets_is_printed_unchanged(registry, capsys):
    study = registry.open()[1].study
    registry.add(filler(study=type(study)(**{**vars(study), "name": "[red]x"})))

    assert run(registry, "show", "v4") == 0
    assert "[red]x" in capsys.readouterr().out


def test_a_version_is_signed_and_its_signature_is_verified(registry, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("CXR_SIGNING_PASSWORD", raising=False)
    secret, public = tmp_path / "ours.key", tmp_path / "ours.pub"
    assert main(["generate-key", str(tmp_path / "ours")]) == 0
    assert f"Keep {secret} offline" in capsys.readouterr().out
    assert run(registry, "sign", "v1", "--secret-key", str(secret)) == 0
    assert f"Signed: {registry.root / 'v1.minisig'}" in capsys.readouterr().out
    assert run(registry, "verify", "v1", "--public-key", str(public)) == 0
    capsys.readouterr()
    assert run(registry, "verify", "--public-key", str(public), "--json") == 2
    checks = json.loads(capsys.readouterr().out)["checks"]
    assert [check["problem"] is None for check in checks] == [True, False, False]
    assert run(registry, "verify") == 0
    assert run(registry, "sign", "v1", "--secret-key", str(public)) == 2
    assert "Expected a secret key of minisign" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:.*[Ff]ile.?[Ss]tore.*", "ignore:.*filesystem.*")
def test_register_prints_the_model_version_in_mlflow(registry, tmp_path, capsys):
    pytest.importorskip("mlflow", reason="the extra `tracking` is not installed")
    words = ["register", "champion", "--model", "screening", "--tracking-uri", str(tmp_path / "mlflow")]
    assert run(registry, *words) == 0
    assert "v1 is now version 1 of model screening in MLflow" in capsys.readouterr().out
    assert run(registry, *words, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"model": "screening", "version": "1"}


def test_compare_prints_the_figures_of_both_versions_and_promotes_nothing(registry, capsys):
    assert run(registry, "compare", "v3") == 0
    output = capsys.readouterr().out
    assert "v3 would be a worse champion than v1" in output
    assert "79.00" in output
    assert registry.champion() == "v1"


def test_compare_reads_what_a_server_with_a_shadow_counted(registry, tmp_path, capsys):
    labels = 'version="v1",challenger="v2",decision="negative"'
    (tmp_path / "metrics").write_text(
        f'ray_cxr_shadow_decisions_total{{{labels},challenger_decision="negative"}} 30.0\n'
        f'ray_cxr_shadow_decisions_total{{{labels},challenger_decision="positive"}} 10.0\n'
        'ray_cxr_shadow_skipped_images_total{reason="queue-full"} 2.0\n'
    )
    words = ["compare", "v2", "--metrics", (tmp_path / "metrics").as_uri()]
    assert run(registry, *words) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "v2 decided as v1 for 75.00 (59.81 to 85.81) % of 40 images." in output
    assert "Not screened by the challenger: 2 (queue-full)." in output
    assert run(registry, *words, "--json") == 0
    shadow = json.loads(capsys.readouterr().out)["shadow"]
    assert {"champion": "negative", "challenger": "positive", "images": 10} in shadow["decisions"]
    assert shadow["skipped"] == {"queue-full": 2}


def test_compare_without_a_server_that_answers_is_an_error(registry, capsys):
    assert run(registry, "compare", "v2", "--metrics", "http://127.0.0.1:1/metrics") == 2
    assert "Expected the metrics of a server at http://127.0.0.1:1/metrics" in capsys.readouterr().err

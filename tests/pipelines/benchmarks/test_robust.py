import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from cxr_platform.config import RobustConfig, load_profile
from pipelines import benchmark
from pipelines.benchmarks import robust
from pipelines.benchmarks.robust_features import Setting
from tests.pipelines.benchmarks.conftest import COUNT


def test_every_setting_is_compared_printed_and_written(
    manifest: SimpleNamespace,
    computed: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    chosen = load_profile("robust").robust
    settings = {
        name: setting
        for name, setting in robust.settings_to_compare(chosen).items()
        if name in ("plain", "gate", "robust", "robust, control")
    }
    monkeypatch.setattr(robust, "settings_to_compare", lambda _: settings)
    monkeypatch.setattr(robust, "REPLICATES", 20)
    file = tmp_path / "pages" / "robust.json"
    options = ["--cache", str(tmp_path / "cache"), "--looked-at", "7", "--json", str(file)]
    assert benchmark.main(["robust", "--manifest", "m", *options]) == 0
    tree = json.loads(file.read_text())
    assert [result["name"] for result in tree["results"]] == list(settings)
    assert capsys.readouterr().out.count("mean AUC") == len(settings)
    assert (tree["looked_at"], tree["images"], tree["contrast"]) == (7 + len(settings), 6 * COUNT - 1, COUNT)
    results = {result["name"]: result for result in tree["results"]}
    assert {tuple(pair) for pair, _ in results["plain"]["auc"]["pairs"]} == {
        (covid, other) for covid in ("clinic", "b") for other in ("c", "d")
    }
    assert results["robust"]["settings"]["views"] == ["whole", "lungs"]
    assert [results["plain"][name]["value"] for name in ("difference", "accuracy_change")] == [0, 0]
    chosen_accuracy, change = (results["robust"][name] for name in ("accuracy", "accuracy_change"))
    assert change["value"] == pytest.approx(chosen_accuracy["value"] - results["plain"]["accuracy"]["value"])
    assert chosen_accuracy["low"] < chosen_accuracy["value"] < chosen_accuracy["high"]
    assert {name for name, result in results.items() if result["indeterminate"]} == {"gate"}
    above = results["robust"]["above_control"]["value"]
    means = [results[name]["auc"]["mean"]["value"] for name in ("robust", "robust, control")]
    assert above == pytest.approx(means[0] - means[1])
    assert benchmark.main(["page", str(file), "--out", str(tmp_path / "robust.md")]) == 0
    assert f"**{7 + len(settings)} settings were looked at**" in (tmp_path / "robust.md").read_text()
    assert benchmark.main(["page", str(file), str(file), "--out", str(tmp_path / "robust.md")]) == 0  # one file
    other = tmp_path / "other.json"
    other.write_bytes(file.read_bytes())
    capsys.readouterr()
    assert benchmark.main(["page", str(file), str(other), "--out", str(tmp_path / "two.md")]) == 2
    assert "robust.json alone" in capsys.readouterr().err
    for result in tree["results"]:
        del result["accuracy_change"]
    other.write_text(json.dumps(tree))
    assert benchmark.main(["page", str(other), "--out", str(tmp_path / "two.md")]) == 2
    assert "Expected a complete result of this version" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_computed(
    manifest: SimpleNamespace, computed: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "robust.json", tmp_path):
        assert benchmark.main(["robust", "--manifest", "m", "--json", str(place)]) != 0
        assert str(place) in capsys.readouterr().err
    assert computed == []


def test_each_chosen_option_is_left_out_once_and_lungs_have_a_control() -> None:
    chosen = RobustConfig(views=("whole", "lungs"), against="normal", margin=3.0, contrast=True)
    settings = robust.settings_to_compare(chosen)
    assert settings["plain"] == Setting(RobustConfig())
    assert settings["robust"] == Setting(chosen)
    assert settings["robust, control"] == Setting(replace(chosen, views=("without-lungs",)))
    without = {name: config for name, config in settings.items() if name.startswith("robust without")}
    assert list(without) == [
        "robust without views = whole + lungs",
        "robust without against = normal",
        "robust without contrast = True",
    ]
    assert without["robust without contrast = True"].config.contrast is False
    assert settings["robust with the segmenter's lungs"] == Setting(chosen, "segmenter")
    assert len(settings) == len({str(setting) for setting in settings.values()})


def test_an_option_that_needs_another_is_left_out_with_it() -> None:
    chosen = RobustConfig(views=("lungs",), appearance="mixed", against="normal", margin=1.0)
    settings = robust.settings_to_compare(chosen)
    assert settings["robust, control"] == Setting(RobustConfig(views=("without-lungs",), against="normal", margin=1.0))
    assert settings["robust without views = lungs"] == Setting(RobustConfig(against="normal", margin=1.0))
    assert settings["robust without against = normal"] == Setting(RobustConfig(views=("lungs",), appearance="mixed"))


def test_settings_that_see_lungs_have_the_same_without_them_as_control() -> None:
    settings = robust.settings_to_compare(load_profile("robust").robust)
    controls = {name: robust.control_of(setting, settings) for name, setting in settings.items()}
    assert controls["robust"] == "robust, control"
    assert controls["robust with the segmenter's lungs"] == "robust, control without the segmenter's lungs"
    assert controls["whole image and central box"] == controls["central box, mixed appearance"]
    assert controls["plain"] is None
    strong = {name: control for name, control in controls.items() if name.endswith("strongly shrunk")}
    assert len(strong) == 8
    for name, control in strong.items():
        assert (control is None) == name.startswith("control: ")
        if control is not None:
            config, without = settings[name].config, settings[control].config
            assert config == replace(without, views=("lungs",))
            assert config.gate or config.last_layer == "within"
            assert config.shrinkage > load_profile("robust").robust.shrinkage

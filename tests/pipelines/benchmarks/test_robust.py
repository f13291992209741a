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
    file, page = tmp_path / "robust.json", tmp_path / "pages" / "robust.md"
    options = ["--cache", str(tmp_path / "cache"), "--looked-at", "7", "--json", str(file), "--page", str(page)]
    assert benchmark.main(["robust", "--manifest", "m", *options]) == 0
    tree = json.loads(file.read_text())
    assert [result["name"] for result in tree["results"]] == list(settings)
    assert capsys.readouterr().out.count("mean AUC") == len(settings)
    assert (tree["looked_at"], tree["images"], tree["contrast"]) == (7 + len(settings), 6 * COUNT - 1, COUNT)
    results = {result["name"]: result for result in tree["results"]}
    assert {tuple(pair) for pair, _ in results["plain"]["auc"]["pairs"]} == {
        (covid, other) for covid in ("clinic", "b") for other in ("c", "d")
    }
    assert results["plain"]["difference"]["value"] == 0
    assert results["robust"]["settings"]["views"] == ["whole", "lungs"]
    written = page.read_text()
    assert f"**{7 + len(settings)} settings were looked at**" in written
    assert "The settings **robust** were chosen on these pairs" in written
    assert "## Goals of robust (chosen on these pairs)" in written
    assert "**the intervals do not include the variation between hospitals**" in written
    assert "The 4 origins count as given" in written
    assert "The control is **robust** with `without-lungs` in place of its own views." in written
    rows = dict(line[2:].split(" | ", 1) for line in written.splitlines() if line.count(" | ") == 5)
    assert list(rows)[1:] == ["**plain**", "gate", "**robust** (chosen on these pairs)", "**robust, control**"]
    assert rows["**plain**"].startswith(f"{results['plain']['auc']['mean']['value']:.3f} (")
    assert rows["**plain**"].split(" | ")[2:4] == ["4", "0.000 (0.000 to 0.000)"]
    assert "| clinic | c |" in written
    above = tree["above_control"]["value"]
    means = [results[name]["auc"]["mean"]["value"] for name in ("robust", "robust, control")]
    assert above == pytest.approx(means[0] - means[1])
    assert f"| at least 0.10 above the control | {above:+.3f} (".replace("-", "−") in written


def test_files_that_cannot_be_written_are_refused_before_anything_is_computed(
    manifest: SimpleNamespace, computed: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    for option, place in (("--page", tmp_path / "file" / "robust.md"), ("--json", tmp_path)):
        assert benchmark.main(["robust", "--manifest", "m", option, str(place)]) != 0
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

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from cxr_platform.config import Profile, RobustConfig, load_profile
from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.predictions import Array
from cxr_platform.evaluation.statistics.unseen_origins import UnseenOrigins
from pipelines import benchmark
from pipelines.benchmarks import robust

CELLS = [("a", "Covid19"), ("b", "Covid19"), ("c", "Normal"), ("d", "Normal"), ("c", "Pneumonia"), ("a", None)]
COUNT = 20


@pytest.fixture
def manifest(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Six cells of class and origin; Covid19 is brighter in the lungs, and one image is external."""
    rows = [(source, label) for source, label in CELLS for _ in range(COUNT)]
    frame = pd.DataFrame(rows, columns=["source", "label"])
    frame["role"] = np.where(frame["label"].isna(), "contrast", "study")
    frame.loc[0, "role"] = "external"
    frame["group_id"] = [f"group {n // 2}" for n in range(len(frame))]
    frame["fold_grouped"] = np.arange(len(frame)) // 2 % 3
    frame["width"] = frame["height"] = 200
    images = np.random.default_rng(1).integers(0, 120, (len(frame), 32, 32)).astype(np.uint8)
    images[(frame["label"] == "Covid19").to_numpy(), 8:24, 8:24] += 6
    found = SimpleNamespace(
        info=SimpleNamespace(folds=3, origins={"a": "clinic"}),
        content_hash="0123456789abcdef",
        table=lambda columns: pa.Table.from_pandas(frame[columns]),
        pixels=lambda: images,
    )
    monkeypatch.setattr("cxr_platform.manifest.store.open_manifest", lambda _: found)
    weights = tmp_path_factory.mktemp("weights") / "imagenet.h5"
    weights.write_bytes(b"weights")
    monkeypatch.setattr("cxr_platform.models.weights.find_weights", lambda *_: weights)
    return found


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Views whose features were computed: means of rows and columns of pixels."""
    views: list[str] = []

    def answers(images: object, *_: object) -> object:
        for view, shown in images:  # type: ignore[attr-defined]
            views.append(view)
            yield view, np.concatenate([shown.mean(axis=1), shown.mean(axis=2)], axis=1).astype("float32")

    monkeypatch.setattr(robust, "_computed", answers)
    return views


def test_every_setting_is_compared_printed_and_written(
    manifest: SimpleNamespace,
    computed: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    chosen = load_profile("robust").robust
    settings = {
        name: config
        for name, config in robust.settings_to_compare(chosen).items()
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


def test_a_setting_with_fewer_pairs_or_other_images_is_marked() -> None:
    pairs = ((("a", "b"), Interval(0.7, ratio=True)),)
    auc = UnseenOrigins(Interval(0.7, ratio=True), Interval(0.7, ratio=True), ("a", "b"), pairs)
    row = robust._row(robust.Result("central box", {"appearance": "mixed"}, auc, Interval(0.1, ratio=True), None))
    assert row.startswith("| central box (with the looks of images of the tested origins, unlabelled) | 0.700 |")
    assert row.split(" | ")[3] == "1"


@pytest.mark.parametrize(("mean", "worst", "accuracy", "met"), [(0.81, 0.61, 78.5, 3), (0.79, 0.59, 77.5, 0)])
def test_goals_are_met_or_not(mean: float, worst: float, accuracy: float, met: int) -> None:
    auc = UnseenOrigins(Interval(mean, ratio=True), Interval(worst, ratio=True), ("a", "b"), ())
    plain, chosen = (robust.Result("x", {}, auc, Interval(0.0), value) for value in (80.0, accuracy))
    lines = robust._goals(plain, chosen, None)
    assert [line.endswith("| yes |") for line in lines].count(True) == met
    assert [line.endswith("| **no** |") for line in lines].count(True) == 3 - met


def test_features_that_are_kept_are_not_computed_again(
    manifest: SimpleNamespace, computed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = robust.RobustRequest(Path("m"), "robust", None, tmp_path, 0, None, None)
    profile = load_profile("robust")
    views = robust.views_of([RobustConfig(), RobustConfig(views=("whole", "lungs"), appearance="mixed")])
    first = robust.load_ablation_data(manifest, profile, request, views)  # type: ignore[arg-type]
    assert computed == list(first.features) == ["whole", "lungs", "mixed-lungs"]
    next(tmp_path.glob("lungs-*")).unlink()
    again = robust.load_ablation_data(manifest, profile, request, views)  # type: ignore[arg-type]
    assert computed[3:] == ["lungs"]
    assert all((first.features[view] == again.features[view]).all() for view in views)
    next(tmp_path.glob("whole-*")).write_bytes(b"")  # only the name says what a file holds
    monkeypatch.setattr("cxr_platform.models.weights.sha256_of", lambda _: "other weights")
    robust.load_ablation_data(manifest, profile, request, ("whole",))  # type: ignore[arg-type]
    assert computed[4:] == ["whole"]


def test_features_have_another_name_for_everything_that_they_depend_on() -> None:
    profile, origins = load_profile("robust"), np.array(["a", "b"])

    def name(view: str, profile: Profile = profile, sha: str = "1" * 64, origins: Array = origins) -> str:
        return robust.feature_file(view, profile, "2" * 64, sha, origins)  # type: ignore[arg-type]

    narrow, smaller = (
        replace(profile, model=replace(profile.model, **m)) for m in ({"alpha": 0.35}, {"input_size": 64})
    )
    other_seed = replace(profile, seed=1)
    names = [name("whole"), name("whole", narrow), name("whole", smaller), name("whole", sha="3" * 64)]
    names += [name("mixed-lungs"), name("mixed-lungs", other_seed), name("mixed-lungs", origins=origins[::-1])]
    assert len(set(names)) == len(names)
    assert name("whole", other_seed) == name("whole")
    assert name("whole", origins=origins[::-1]) == name("whole")


def test_each_chosen_option_is_left_out_once_and_lungs_have_a_control() -> None:
    chosen = RobustConfig(views=("whole", "lungs"), against="normal", margin=3.0, contrast=True)
    settings = robust.settings_to_compare(chosen)
    assert settings["plain"] == RobustConfig()
    assert settings["robust"] == chosen
    assert settings["robust, control"] == replace(chosen, views=("without-lungs",))
    without = {name: config for name, config in settings.items() if name.startswith("robust without")}
    assert list(without) == [
        "robust without views = whole + lungs",
        "robust without against = normal",
        "robust without contrast = True",
    ]
    assert without["robust without contrast = True"].contrast is False
    assert len(settings) == len({str(config) for config in settings.values()})


def test_an_option_that_needs_another_is_left_out_with_it() -> None:
    chosen = RobustConfig(views=("lungs",), appearance="mixed", against="normal", margin=1.0)
    settings = robust.settings_to_compare(chosen)
    assert settings["robust, control"] == RobustConfig(views=("without-lungs",), against="normal", margin=1.0)
    assert settings["robust without views = lungs"] == RobustConfig(against="normal", margin=1.0)
    assert settings["robust without against = normal"] == RobustConfig(views=("lungs",), appearance="mixed")

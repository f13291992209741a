import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from cxr_platform.config import RobustConfig, load_profile
from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.statistics.unseen_origins import UnseenOrigins
from pipelines import benchmark
from pipelines.benchmarks import robust

CELLS = [("a", "Covid19"), ("b", "Covid19"), ("c", "Normal"), ("d", "Normal"), ("c", "Pneumonia"), ("a", None)]
COUNT = 20


@pytest.fixture
def manifest(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
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
    file, page = tmp_path / "robust.json", tmp_path / "robust.md"
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
    assert all(f"| {name} |" in written or f"| **{name}** |" in written for name in settings)
    assert f"| **plain** | {results['plain']['auc']['mean']['value']:.3f} [" in written
    assert "| clinic | c |" in written
    above = tree["above_control"]["value"]
    means = [results[name]["auc"]["mean"]["value"] for name in ("robust", "robust, control")]
    assert above == pytest.approx(means[0] - means[1])
    assert f"| at least 0.10 above the control | {above:+.3f} [" in written


@pytest.mark.parametrize(("mean", "worst", "accuracy", "met"), [(0.81, 0.61, 78.5, 3), (0.79, 0.59, 77.5, 0)])
def test_goals_are_met_or_not(mean: float, worst: float, accuracy: float, met: int) -> None:
    auc = UnseenOrigins(Interval(mean, ratio=True), Interval(worst, ratio=True), ("a", "b"), ())
    plain, chosen = (robust.Result("x", {}, auc, Interval(0.0), value) for value in (80.0, accuracy))
    lines = robust._goals(plain, chosen, None)
    assert [line.endswith("| yes |") for line in lines].count(True) == met
    assert [line.endswith("| **no** |") for line in lines].count(True) == 3 - met


def test_features_that_are_kept_are_not_computed_again(
    manifest: SimpleNamespace, computed: list[str], tmp_path: Path
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


def test_each_chosen_option_is_left_out_once_and_lungs_have_a_control() -> None:
    chosen = RobustConfig(views=("whole", "lungs"), against="normal", margin=3.0, contrast=True)
    settings = robust.settings_to_compare(chosen)
    assert settings["plain"] == RobustConfig()
    assert settings["robust"] == chosen
    assert settings["robust, control"].views == ("whole", "without-lungs")
    without = {name: config for name, config in settings.items() if name.startswith("robust without")}
    assert list(without) == [
        "robust without views = whole + lungs",
        "robust without against = normal",
        "robust without contrast = True",
    ]
    assert without["robust without contrast = True"].contrast is False
    assert len(settings) == len({str(config) for config in settings.values()})

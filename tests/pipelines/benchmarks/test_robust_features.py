from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cxr_platform.config import Profile, RobustConfig, load_profile
from cxr_platform.evaluation.predictions import Array
from pipelines.benchmarks.robust_features import (
    FeatureSource,
    Lungs,
    Setting,
    Shown,
    feature_file,
    load_ablation_data,
    views_of,
)


def test_features_that_are_kept_are_not_computed_again(
    manifest: SimpleNamespace, computed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = FeatureSource(manifest, load_profile("robust"), cache=tmp_path)  # type: ignore[arg-type]
    mixed = RobustConfig(views=("whole", "lungs"), appearance="mixed")
    views = views_of([Setting(RobustConfig()), Setting(mixed)])
    first = load_ablation_data(source, views)["outline"]
    assert first.looks is not None
    looks = ["mixed-lungs"] * len(first.looks.donors)
    assert computed == [*first.features, *looks] == ["whole", "lungs", *looks]
    next(tmp_path.glob("lungs-*")).unlink()
    next(tmp_path.glob("mixed-lungs-*")).unlink()
    again = load_ablation_data(source, views)["outline"]
    assert computed[2 + len(looks) :] == ["lungs", "mixed-lungs"]
    assert all((first.features[view] == again.features[view]).all() for view in first.features)
    assert again.looks is not None
    assert (first.looks.features == again.looks.features).all()
    assert (first.looks.donors == again.looks.donors).all()
    next(tmp_path.glob("whole-*")).write_bytes(b"")  # only the name says what a file holds
    monkeypatch.setattr("cxr_platform.models.weights.sha256_of", lambda _: "other weights")
    load_ablation_data(source, {"outline": ("whole",)})
    assert computed[4 + len(looks) :] == ["whole"]


def test_features_have_another_name_for_everything_that_they_depend_on() -> None:
    profile, origins = load_profile("robust"), np.array(["a", "b"])

    def name(
        view: Shown,
        lungs: Lungs = "outline",
        profile: Profile = profile,
        sha: str = "1" * 64,
        origins: Array = origins,
        look: int = 0,
    ) -> str:
        return feature_file(view, lungs, profile, "2" * 64, sha, origins, look)

    narrow, smaller = (
        replace(profile, model=replace(profile.model, **m)) for m in ({"alpha": 0.35}, {"input_size": 64})
    )
    other_seed = replace(profile, seed=1)
    names = [name("whole"), name("whole", profile=narrow), name("whole", profile=smaller), name("whole", sha="3" * 64)]
    names += [name("mixed-lungs"), name("mixed-lungs", profile=other_seed), name("mixed-lungs", origins=origins[::-1])]
    names += [name("mixed-lungs", look=1), name("lungs"), name("lungs", "segmenter")]
    assert len(set(names)) == len(names)
    assert name("whole", "segmenter") == name("whole")
    assert name("whole", profile=other_seed) == name("whole")
    assert name("whole", origins=origins[::-1]) == name("whole")


def test_lungs_of_the_segmenter_are_views_of_their_own(
    manifest: SimpleNamespace, computed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = np.zeros((119, 32, 32), bool)
    masks[:, 4:20, 6:26] = True
    found = SimpleNamespace(masks=masks)
    monkeypatch.setattr("cxr_platform.evidence.lung_regions.lung_regions", lambda *_: found)
    source = FeatureSource(manifest, load_profile("robust"))  # type: ignore[arg-type]
    lungs = RobustConfig(views=("lungs",))
    data = load_ablation_data(source, views_of([Setting(lungs), Setting(lungs, "segmenter")]))
    assert computed == ["lungs", "lungs"]
    assert (data["outline"].labels == data["segmenter"].labels).all()
    assert (data["outline"].features["lungs"] != data["segmenter"].features["lungs"]).any()


def test_a_view_that_both_lungs_share_is_computed_once(manifest: SimpleNamespace, computed: list[str]) -> None:
    source = FeatureSource(manifest, load_profile("robust"))  # type: ignore[arg-type]
    whole = RobustConfig(views=("whole",))
    data = load_ablation_data(source, views_of([Setting(whole), Setting(whole, "segmenter")]))
    assert computed == ["whole"]
    assert data["outline"].features["whole"] is data["segmenter"].features["whole"]

"""Out-of-fold predictions for contrast images, with made-up networks."""

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cxr_platform.domain.predictions import CONTRAST_SCHEMA, PROBABILITY_COLUMNS
from cxr_platform.errors import NotPossible
from cxr_platform.evidence import contrast_images as module
from cxr_platform.evidence.contrast_images import contrast_predictions
from cxr_platform.intake.letterbox import resize_images
from tests.evidence.builders import RecordedSteps, recorded_shapes
from tests.training.builders import tiny_profile

STRATEGIES = ("scratch", "off-the-shelf")


@pytest.fixture(autouse=True)
def made_up_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks whose probability of every class tells strategy, fold, and the mean of the image as it was given."""

    def networks(opened: Any, strategy: str, folds: Sequence[int]) -> Iterator[tuple[int, float]]:
        yield from ((fold, STRATEGIES.index(strategy) + fold / 10) for fold in folds)

    def predicted(network: float, images: np.ndarray) -> np.ndarray:
        return np.repeat((network + images.mean(axis=(1, 2)) / 1000)[:, None], 7, axis=1).astype("float32")

    monkeypatch.setattr(module, "fold_networks", networks)
    monkeypatch.setattr(module, "predict_images", predicted)


def opened(roles: Sequence[str], protocol: str = "grouped") -> Any:
    """Five images of 64 pixels; the two splits have other folds."""
    pixels = np.random.default_rng(0).integers(0, 255, (5, 64, 64), "uint8")
    columns = {name: [f"{name}-{i}" for i in range(5)] for name in ("image_id", "source_path", "group_id", "finding")}
    columns |= {"source": ["cohen"] * 5, "label": [None if role == "contrast" else "Covid19" for role in roles]}
    columns |= {"width": [400] * 5, "height": [300] * 5}
    table = pa.table({**columns, "role": list(roles), "fold_grouped": [0, 2, 2, 0, -1], "fold_paper": [0, 1, 0, 1, -1]})
    manifest = SimpleNamespace(table=table.select, pixels=lambda rows=slice(None): pixels[rows], image_size=64)
    study = SimpleNamespace(strategies=STRATEGIES, folds=3, protocol=protocol)
    return SimpleNamespace(manifest=manifest, study=study, profile=tiny_profile(), progress=RecordedSteps())


@pytest.mark.parametrize(("protocol", "folds"), [("grouped", [2, 2, 0]), ("paper", [1, 0, 1])])
def test_each_contrast_image_is_predicted_by_the_network_that_has_its_fold_held_out(
    protocol: str, folds: list[int]
) -> None:
    made = opened(["study", "contrast", "contrast", "contrast", "external"], protocol)
    table = contrast_predictions(made)["contrast"]
    assert table.schema == CONTRAST_SCHEMA
    assert table["label"].null_count == table.num_rows == 3 * len(STRATEGIES)
    means = resize_images(made.manifest.pixels()[1:4], 32).mean(axis=(1, 2)) / 1000
    for strategy, rows in table.to_pandas().groupby("strategy"):
        rows = rows.sort_values("image_id")
        assert rows["finding"].tolist() == ["finding-1", "finding-2", "finding-3"]
        assert rows["fold"].tolist() == folds
        expected = STRATEGIES.index(strategy) + np.array(folds) / 10 + means
        assert rows[list(PROBABILITY_COLUMNS)].to_numpy() == pytest.approx(np.repeat(expected[:, None], 7, axis=1))
    assert [(done, total) for _, done, total in made.progress.steps] == [(1, 2), (2, 2)]


def test_networks_of_robust_get_views_of_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    made = opened(["study", "contrast", "contrast", "contrast", "external"])
    made.study.strategies = ("robust",)
    made.profile = tiny_profile(robust={"views": ["whole", "lungs"]})
    shapes = recorded_shapes(module, monkeypatch)
    assert contrast_predictions(made)["contrast"].num_rows == 3
    assert shapes == {(2, 32, 32)}


def test_without_contrast_images_the_analysis_is_not_possible() -> None:
    with pytest.raises(NotPossible, match='contrast = "all"'):
        contrast_predictions(opened(["study"] * 4 + ["external"]))

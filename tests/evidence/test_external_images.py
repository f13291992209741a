"""Predictions for external images by every strategy and fold, with made-up networks."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.errors import NotPossible
from cxr_platform.evaluation.evidence_files import FILES
from cxr_platform.evidence import external_images as module
from cxr_platform.evidence.external_images import (
    ExternalImages,
    external_predictions,
    outside_predictions,
    predict_external,
)
from cxr_platform.intake.letterbox import resize_images
from cxr_platform.training import devices
from tests.evidence.builders import RecordedSteps, recorded_shapes
from tests.training.builders import tiny_profile

STRATEGIES = ("scratch", "off-the-shelf")


@pytest.fixture(autouse=True)
def made_up_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks whose probability of the first class tells strategy, fold, and the mean of the image as it was given."""

    def networks(opened: Any, strategy: str) -> Iterator[tuple[int, float]]:
        yield from ((fold, STRATEGIES.index(strategy) + fold / 10) for fold in range(opened.study.folds))

    def predicted(network: float, images: np.ndarray) -> np.ndarray:
        return np.repeat(answer(network, images)[:, None], 7, axis=1)

    monkeypatch.setattr(module, "fold_networks", networks)
    monkeypatch.setattr(module, "predict_images", predicted)
    monkeypatch.setattr(module, "indeterminate_images", lambda *_: None)


def answer(network: float, images: np.ndarray) -> np.ndarray:
    return (network + images.mean(axis=(1, 2)) / 1000).astype("float32")


def opened(role: str, progress: RecordedSteps | None = None) -> Any:
    """Five images of 64 pixels in the manifest, the first of the study."""
    pixels = np.random.default_rng(0).integers(0, 255, (5, 64, 64), "uint8")
    columns = {
        "image_id": [f"new-{i}" for i in range(5)],
        "source_path": [f"elsewhere/{i}.png" for i in range(5)],
        "group_id": [f"group-{i}" for i in range(5)],
        "source": ["elsewhere"] * 5,
        "label": ["Covid19", "Normal", "Normal", "Edema", "Normal"],
        "finding": ["tuberculosis"] * 5,
        "role": ["study", *[role] * 4],
        "width": [400] * 5,
        "height": [300] * 5,
    }
    manifest = SimpleNamespace(
        table=pa.table(columns).select, pixels=lambda rows=slice(None): pixels[rows], image_size=64
    )
    study = SimpleNamespace(strategies=STRATEGIES, folds=2)
    return SimpleNamespace(manifest=manifest, study=study, profile=tiny_profile(), progress=progress or RecordedSteps())


def test_external_images_are_predicted_by_every_network_at_the_size_of_the_study() -> None:
    made = opened("external")
    table = external_predictions(made)["external"]
    frame = table.to_pandas()
    assert set(FILES["external"]) <= set(table.column_names)
    assert len(frame) == 4 * 2 * 2
    resized = resize_images(made.manifest.pixels()[1:], 32)
    for (strategy, fold), rows in frame.groupby(["strategy", "fold"]):
        assert rows["image_id"].tolist() == ["new-1", "new-2", "new-3", "new-4"]
        assert rows["source_path"].tolist() == [f"elsewhere/{i}.png" for i in range(1, 5)]
        assert rows["label"].tolist() == ["Normal", "Normal", "Edema", "Normal"]
        expected = answer(STRATEGIES.index(strategy) + fold / 10, resized)
        assert rows[list(PROBABILITY_COLUMNS)].to_numpy() == pytest.approx(np.repeat(expected[:, None], 7, axis=1))


def test_answers_at_a_gate_are_told_of_the_strategy_that_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    made = opened("external")
    assert "indeterminate" not in external_predictions(made)["external"].column_names
    monkeypatch.setattr(
        module, "indeterminate_images", lambda net, images: images.any(axis=(1, 2)) if net < 1 else None
    )
    frame = external_predictions(made)["external"].to_pandas()
    assert frame.groupby("strategy")["indeterminate"].agg(["all", "count"]).to_dict("index") == {
        "off-the-shelf": {"all": True, "count": 0},
        "scratch": {"all": True, "count": 8},
    }


def test_outside_images_are_predicted_as_external_ones_are_with_their_finding() -> None:
    made = opened("outside")
    table = outside_predictions(made)["outside"]
    assert set(FILES["outside"]) <= set(table.column_names)
    assert table.num_rows == 4 * 2 * 2
    assert set(table["finding"].to_pylist()) == {"tuberculosis"}
    with pytest.raises(NotPossible, match="cxr manifest --outside"):
        outside_predictions(opened("external"))


def test_images_for_which_there_is_no_memory_are_left_out_of_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    made = opened("external")
    made.manifest.pixels = lambda _: pytest.fail("they are read")
    monkeypatch.setattr(devices, "available_memory", lambda: 4 * (64**2 + 32**2) - 1)
    with pytest.raises(NotPossible, match=r"memory for 4 external images.*fewer external images"):
        external_predictions(made)


def test_progress_counts_the_networks() -> None:
    progress = RecordedSteps()
    external_predictions(opened("external", progress))
    assert [(done, total) for _, done, total in progress.steps] == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_images_without_a_label_are_predicted_too() -> None:
    made = opened("external")
    facts = made.manifest.table(["image_id", "source_path", "group_id", "source", "width", "height"]).append_column(
        "label", pa.nulls(5, pa.string())
    )
    table = predict_external(ExternalImages(facts, made.manifest.pixels()), made)
    assert table["label"].null_count == table.num_rows == 20


def test_networks_of_robust_get_views_of_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    made = opened("external")
    made.study.strategies = ("robust",)
    made.profile = tiny_profile(robust={"views": ["whole", "lungs"]})
    shapes = recorded_shapes(module, monkeypatch)
    assert external_predictions(made)["external"].num_rows == 8
    assert shapes == {(2, 32, 32)}


def test_without_external_images_the_analysis_is_not_possible() -> None:
    with pytest.raises(NotPossible, match="cxr manifest --external"):
        external_predictions(opened("study"))

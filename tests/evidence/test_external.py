"""Images that no fold has seen, by every strategy × fold. That the real networks are filled and asked as in their
trials is the matter of test_networks.py; here they are made up."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.errors import NotPossible
from cxr_platform.evaluation.evidence_files import FILES
from cxr_platform.evidence import external as module
from cxr_platform.evidence.external import UnseenImages, external, score
from cxr_platform.intake.letterbox import resize_images
from tests.training.builders import tiny_profile

STRATEGIES = ("scratch", "off-the-shelf")


@pytest.fixture(autouse=True)
def made_up_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks whose probability of the first class tells strategy, fold, and the mean of the image as it was given."""

    def networks(workspace: Any, strategy: str) -> Iterator[tuple[int, float]]:
        yield from ((fold, STRATEGIES.index(strategy) + fold / 10) for fold in range(workspace.study.folds))

    def predicted(network: float, images: np.ndarray, workspace: Any) -> np.ndarray:
        del workspace
        return np.repeat(answer(network, images)[:, None], 7, axis=1)

    monkeypatch.setattr(module, "fold_networks", networks)
    monkeypatch.setattr(module, "predict_images", predicted)


def answer(network: float, images: np.ndarray) -> np.ndarray:
    return (network + images.mean(axis=(1, 2)) / 1000).astype("float32")


def workspace(role: str, steps: list[tuple[str, int, int]] | None = None) -> Any:
    """Five images of 64 pixels in the manifest, the first of the study."""
    pixels = np.random.default_rng(0).integers(0, 255, (5, 64, 64), "uint8")
    columns = {
        "image_id": [f"new-{i}" for i in range(5)],
        "group_id": [f"group-{i}" for i in range(5)],
        "source": ["elsewhere"] * 5,
        "label": ["Covid19", "Normal", "Normal", "Edema", "Normal"],
        "role": ["study", *[role] * 4],
    }
    manifest = SimpleNamespace(table=pa.table(columns).select, pixels=lambda: pixels)
    study = SimpleNamespace(strategies=STRATEGIES, folds=2)
    told = steps if steps is not None else []
    return SimpleNamespace(
        manifest=manifest, study=study, profile=tiny_profile(), progress=lambda *step: told.append(step)
    )


def test_external_images_are_scored_by_every_model_at_the_size_of_the_study() -> None:
    made = workspace("external")
    table = external(made)["external"]
    frame = table.to_pandas()
    assert set(FILES["external"]) <= set(table.column_names)
    assert len(frame) == 4 * 2 * 2
    resized = resize_images(made.manifest.pixels()[1:], 32)
    for (strategy, fold), rows in frame.groupby(["strategy", "fold"]):
        assert rows["image_id"].tolist() == ["new-1", "new-2", "new-3", "new-4"]
        assert rows["label"].tolist() == ["Normal", "Normal", "Edema", "Normal"]
        expected = answer(STRATEGIES.index(strategy) + fold / 10, resized)
        assert rows[list(PROBABILITY_COLUMNS)].to_numpy() == pytest.approx(np.repeat(expected[:, None], 7, axis=1))


def test_progress_counts_the_models() -> None:
    steps: list[tuple[str, int, int]] = []
    external(workspace("external", steps))
    assert [(done, total) for _, done, total in steps] == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_images_without_a_label_are_scored_with_none() -> None:
    made = workspace("external")
    facts = made.manifest.table(["image_id", "group_id", "source"]).append_column("label", pa.nulls(5, pa.string()))
    table = score(UnseenImages(facts, made.manifest.pixels()), made)
    assert table["label"].null_count == table.num_rows == 20


def test_without_external_images_it_is_not_possible() -> None:
    with pytest.raises(NotPossible, match="cxr manifest --external"):
        external(workspace("study"))

"""Fixtures: a manifest of several origins for `cxr benchmark robust`, and measurements of a GPU that are made up."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pipelines.benchmarks import gpu_measurements, robust_features
from tests.pipelines.benchmarks.gpu_builders import Prepared

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

    monkeypatch.setattr(robust_features, "_computed", answers)
    return views


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measurements of made-up rates, in this process."""
    monkeypatch.setattr(gpu_measurements, "Measurement", Prepared)
    monkeypatch.setattr(Prepared, "windows", [])

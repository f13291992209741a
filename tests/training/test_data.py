from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from cxr_platform.errors import FoldError
from cxr_platform.intake.letterbox import resize_images
from cxr_platform.training.data import load_study_data
from cxr_platform.training.robust_head import CONTRAST


@pytest.fixture
def manifest() -> SimpleNamespace:
    """Six images: the fifth is external, the last one a contrast image."""
    table = pa.table(
        {
            "image_id": ["a", "b", "c", "d", "e", "f"],
            "source_path": [f"s/{name}.png" for name in "abcdef"],
            "group_id": ["1", "1", "2", "3", "4", "5"],
            "source": ["s"] * 5 + ["t"],
            "label": ["Covid19", "Normal", "Edema", "Normal", "Normal", None],
            "role": ["study"] * 4 + ["external", "contrast"],
            "width": [400] * 6,
            "height": [300] * 6,
            "fold_grouped": [0, 0, 1, 1, -1, 1],
            "fold_paper": [0, 1, 0, 1, -1, 0],
        }
    )
    images = np.stack([np.full((200, 200), 10 * i, "uint8") for i in range(6)])
    info = SimpleNamespace(origins={"s": "a hospital"})

    def pixels(rows: np.ndarray, side: int = 200) -> np.ndarray:
        return resize_images(images[rows], side)

    return SimpleNamespace(folder=Path("m"), info=info, table=lambda columns: table.select(columns), pixels=pixels)


def test_external_images_are_not_study_images(manifest: SimpleNamespace) -> None:
    data = load_study_data(manifest, "grouped", 2, 64)  # type: ignore[arg-type]
    assert data.image_ids.tolist() == ["a", "b", "c", "d"]
    assert data.source_paths.tolist() == ["s/a.png", "s/b.png", "s/c.png", "s/d.png"]
    assert data.labels.tolist() == [0, 6, 1, 6]
    assert data.images.shape == (4, 64, 64)
    assert data.images[3].mean() == 30


def test_views_are_of_the_study_images_and_then_of_contrast_images(manifest: SimpleNamespace) -> None:
    data = load_study_data(manifest, "grouped", 2, 64, ("whole", "lungs"))  # type: ignore[arg-type]
    views = data.views
    assert views is not None
    np.testing.assert_array_equal(views.images[:4, 0], data.images)
    assert views.images.shape == (5, 2, 64, 64)
    assert views.images[:, 0].mean(axis=(1, 2)).tolist() == [0, 10, 20, 30, 50]
    assert views.labels.tolist() == [0, 6, 1, 6, CONTRAST]
    assert views.folds.tolist() == [0, 0, 1, 1, 1]
    assert views.origins.tolist() == ["a hospital"] * 4 + ["t"]
    assert load_study_data(manifest, "grouped", 2, 64).views is None  # type: ignore[arg-type]


def test_train_and_test_rows_are_complements(manifest: SimpleNamespace) -> None:
    data = load_study_data(manifest, "paper", 2, 200)  # type: ignore[arg-type]
    assert data.rows_of_fold(1).tolist() == [1, 3]
    assert data.rows_outside(1).tolist() == [0, 2]


def test_another_number_of_folds_is_refused_with_advice(manifest: SimpleNamespace) -> None:
    with pytest.raises(FoldError, match=r"3 folds.*Received: 2.*FOLDS=3"):
        load_study_data(manifest, "grouped", 3, 64)  # type: ignore[arg-type]

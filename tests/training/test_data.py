from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from cxr_platform.errors import FoldError
from cxr_platform.training.data import load_study_data


@pytest.fixture
def manifest() -> SimpleNamespace:
    """Five images, the last of them external."""
    table = pa.table(
        {
            "image_id": ["a", "b", "c", "d", "e"],
            "source_path": [f"s/{name}.png" for name in "abcde"],
            "group_id": ["1", "1", "2", "3", "4"],
            "source": ["s"] * 5,
            "label": ["Covid19", "Normal", "Edema", "Normal", "Normal"],
            "role": ["study"] * 4 + ["external"],
            "fold_grouped": [0, 0, 1, 1, -1],
            "fold_paper": [0, 1, 0, 1, -1],
        }
    )
    images = np.stack([np.full((200, 200), 10 * i, "uint8") for i in range(5)])
    return SimpleNamespace(folder=Path("m"), table=lambda columns: table.select(columns), pixels=lambda: images)


def test_external_images_are_not_study_images(manifest: SimpleNamespace) -> None:
    data = load_study_data(manifest, "grouped", 2, 64)  # type: ignore[arg-type]
    assert data.image_ids.tolist() == ["a", "b", "c", "d"]
    assert data.source_paths.tolist() == ["s/a.png", "s/b.png", "s/c.png", "s/d.png"]
    assert data.labels.tolist() == [0, 6, 1, 6]
    assert data.images.shape == (4, 64, 64)
    assert data.images[3].mean() == 30


def test_train_and_test_rows_are_complements(manifest: SimpleNamespace) -> None:
    data = load_study_data(manifest, "paper", 2, 200)  # type: ignore[arg-type]
    assert data.rows_of_fold(1).tolist() == [1, 3]
    assert data.rows_outside(1).tolist() == [0, 2]


def test_another_number_of_folds_is_refused_with_advice(manifest: SimpleNamespace) -> None:
    with pytest.raises(FoldError, match=r"3 folds.*Received: 2.*FOLDS=3"):
        load_study_data(manifest, "grouped", 3, 64)  # type: ignore[arg-type]

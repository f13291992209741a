from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from cxr_platform.errors import FoldError, NotPossible
from cxr_platform.intake.letterbox import resize_images
from cxr_platform.intake.lung_views import stacked_views
from cxr_platform.training import devices
from cxr_platform.training.data import load_study_data, load_view_images
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

    def pixel_batches(rows: np.ndarray) -> Iterator[np.ndarray]:
        for start in (0, 4):
            yield images[start : start + 4][rows[start : start + 4]]

    return SimpleNamespace(folder=Path("m"), info=info, table=table.select, pixels=pixels, pixel_batches=pixel_batches)


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


def test_views_are_those_of_all_images_at_once_wherever_contrast_images_are(manifest: SimpleNamespace) -> None:
    table = manifest.table(["label", "source", "width", "height", "fold_grouped"])
    roles = ["contrast", "study", "study", "external", "study", "contrast"]
    table = table.append_column("role", pa.array(roles)).set_column(
        2, "width", pa.array([400, 300, 200, 300, 250, 300])
    )
    manifest.table = table.select
    views = load_view_images(manifest, "grouped", 64, ("lungs", "without-lungs"))  # type: ignore[arg-type]
    order = np.array([1, 2, 4, 0, 5])
    pixels, taken = manifest.pixels(order), table.take(order)
    sides = taken["width"].to_numpy(), taken["height"].to_numpy()
    np.testing.assert_array_equal(views.images, stacked_views(("lungs", "without-lungs"), pixels, *sides, 64))


def test_views_for_which_there_is_no_memory_are_refused_before_an_image_is_read(
    manifest: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest.pixel_batches = lambda _: pytest.fail("they are read")
    monkeypatch.setattr(devices, "available_memory", lambda: 5 * 2 * 64**2 - 1)
    with pytest.raises(NotPossible, match=r"memory for 2 views of 5 images, which the strategy robust.*--strategies"):
        load_view_images(manifest, "grouped", 64, ("whole", "lungs"))  # type: ignore[arg-type]


def test_train_and_test_rows_are_complements(manifest: SimpleNamespace) -> None:
    data = load_study_data(manifest, "paper", 2, 200)  # type: ignore[arg-type]
    assert data.rows_of_fold(1).tolist() == [1, 3]
    assert data.rows_outside(1).tolist() == [0, 2]


def test_another_number_of_folds_is_refused_with_advice(manifest: SimpleNamespace) -> None:
    with pytest.raises(FoldError, match=r"3 folds.*Received: 2.*FOLDS=3"):
        load_study_data(manifest, "grouped", 3, 64)  # type: ignore[arg-type]

"""Pairs of images and masks, folds of patients, and Dice coefficients."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr_platform.errors import SourceError
from cxr_platform.evidence.lung_scores import SIDE, MaskedFolder, dice, read_masked_folder, rows_of_fold, score


def picture(path: Path, value: int = 100, size: tuple[int, int] = (40, 20)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0]), value, np.uint8)).save(path)


def test_masks_lie_beside_their_images_or_in_a_folder_of_their_own(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.png"):
        picture(tmp_path / "one" / name)
    picture(tmp_path / "one" / "a@.png", 255)
    beside = read_masked_folder(tmp_path / "one", tmp_path / "one", "aerated")
    assert (beside.part, len(beside.pixels), beside.sizes.tolist()) == ("aerated", 1, [[40, 20]])
    assert beside.masks[0].sum() == SIDE * SIDE // 2  # an image twice as wide as high fills half of the square
    picture(tmp_path / "masks" / "b.png", 255)
    assert len(read_masked_folder(tmp_path / "one", tmp_path / "masks", "whole").pixels) == 1


def test_patients_come_from_a_table_or_are_the_files(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        picture(tmp_path / "images" / f"{name}.png")
        picture(tmp_path / "masks" / f"{name}.png", 255)
    table = tmp_path / "table.csv"
    table.write_text("file,person\na.png,7\nb.png,7\nc.png,\n")
    read = read_masked_folder(tmp_path / "images", tmp_path / "masks", "whole", (table, "file", "person"))
    assert read.patients.tolist() == ["7", "7", "c.png"]
    with pytest.raises(SourceError, match="columns file and patient"):
        read_masked_folder(tmp_path / "images", tmp_path / "masks", "whole", (table, "file", "patient"))


def test_folders_without_pairs_and_masks_that_do_not_fit_are_errors(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    picture(tmp_path / "masks" / "b.png", 255)
    with pytest.raises(SourceError, match="no pair"):
        read_masked_folder(tmp_path / "images", tmp_path / "masks", "whole")
    picture(tmp_path / "masks" / "a.png", 255, (30, 20))
    with pytest.raises(SourceError, match="40 × 20 pixels"):
        read_masked_folder(tmp_path / "images", tmp_path / "masks", "whole")
    (tmp_path / "masks" / "a.png").write_text("no image")
    with pytest.raises(SourceError, match=r"an image at .*a\.png"):
        read_masked_folder(tmp_path / "images", tmp_path / "masks", "whole")


def test_folds_hold_every_patient_once() -> None:
    patients = np.array([f"P{i // 3}" for i in range(60)])
    folds = np.stack([rows_of_fold(patients, fold, 4) for fold in (1, 2, 3, 4)])
    assert (folds.sum(axis=0) == 1).all()
    assert (folds.reshape(4, 20, 3).all(axis=2) | ~folds.reshape(4, 20, 3).any(axis=2)).all()
    assert (folds.sum(axis=1) == 15).all()


def test_dice_of_known_masks() -> None:
    one, half = np.ones((1, 2, 2), bool), np.array([[[True, True], [False, False]]])
    assert dice(one, half) == pytest.approx(2 / 3)
    assert dice(half, ~half) == 0
    assert dice(~one, ~one) == 1
    assert dice(~one, one) == 0


def test_a_score_counts_images_without_lungs_as_0() -> None:
    masks = np.zeros((4, SIDE, SIDE), bool)
    masks[:, :100] = True
    folder = MaskedFolder(
        "whole", np.zeros((4, SIDE, SIDE), np.uint8), masks, np.array(list("aabc")), np.ones((4, 2), int)
    )
    predicted = masks.copy()
    predicted[0] = False
    made = score(predicted, folder, "method", "set")
    assert (made.count, made.patients, made.not_found) == (4, 3, 1)
    assert made.dice.value == 0.75
    assert made.dice.low < 0.75 < made.dice.high
